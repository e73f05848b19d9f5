//! The same declarations as an Anchor IDL, in the current specification and in the legacy one that
//! anchorpy reads. Host only.

use core::fmt::Write as _;

use crate::{
    checks::flag,
    declare::{discriminator, Kind},
    errors, events, instructions, messages, state,
};

/// The program's name in the IDL.
pub const NAME: &str = "reaver_market";
/// The address of the localnet's program: the public key of the published seed
/// `sha256("reaver-localnet program")`, as localnet.toml has it. The program itself runs under any address.
pub const LOCALNET_ADDRESS: &str = "3Q8EAU3nPL3Fh5LAphwprGjPi7TTtY1qaPtXejC4iVhY";

/// A field of a struct, or an argument.
pub struct FieldEntry {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub docs: &'static [&'static str],
    /// Its type.
    pub kind: Kind,
}

/// An account type, a struct or an event.
pub struct Struct {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub docs: &'static [&'static str],
    /// Its fields, in order.
    pub fields: &'static [FieldEntry],
}

impl Struct {
    /// The sum of the fields' sizes; `records` are the structs that may stand inside.
    ///
    /// # Panics
    /// On a type that Borsh gives no fixed size, or a struct that is not among `records`.
    #[must_use]
    pub fn size(&self, records: &[Self]) -> usize {
        size_of(self.fields, records)
    }
}

/// The sum of fields' sizes, as of arguments.
///
/// # Panics
/// As `Struct::size`.
#[must_use]
pub fn size_of(fields: &[FieldEntry], records: &[Struct]) -> usize {
    fields.iter().map(|f| size(f.kind, records)).sum()
}

fn size(kind: Kind, records: &[Struct]) -> usize {
    match kind {
        Kind::Primitive("u8" | "bool") => 1,
        Kind::Primitive("u16") => 2,
        Kind::Primitive("u32") => 4,
        Kind::Primitive("u64" | "i64") => 8,
        Kind::Primitive("u128") => 16,
        Kind::Primitive("pubkey") => 32,
        Kind::Primitive(other) => panic!("{other} has no fixed size here"),
        Kind::Array(item, count) => size(*item, records) * count,
        Kind::Defined(name) => records
            .iter()
            .find(|record| record.name == name)
            .unwrap_or_else(|| panic!("{name} is not declared"))
            .size(records),
    }
}

/// An account of an instruction.
pub struct AccountEntry {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub docs: &'static [&'static str],
    /// `checks::flag` bits.
    pub flags: u8,
}

/// An instruction.
pub struct Instruction {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub docs: &'static [&'static str],
    /// Its accounts, in order.
    pub accounts: &'static [AccountEntry],
    /// Its arguments, in order.
    pub args: &'static [FieldEntry],
}

/// An error.
pub struct ErrorEntry {
    /// Its number.
    pub code: u32,
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub message: &'static str,
}

/// Which specification is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `spec` 0.1.0: Anchor 0.30 and later.
    Current,
    /// Before Anchor 0.30.
    Legacy,
}

/// A JSON value with ordered keys: as much of JSON as an IDL needs.
enum Json {
    Text(String),
    Plain(String),
    List(Vec<Json>),
    Map(Vec<(&'static str, Json)>),
}

impl Json {
    fn text(value: impl Into<String>) -> Self {
        Self::Text(value.into())
    }

    fn number(value: impl core::fmt::Display) -> Self {
        Self::Plain(value.to_string())
    }

    fn write(&self, out: &mut String, depth: usize) {
        let pad = "  ".repeat(depth + 1);
        match self {
            Self::Text(text) => {
                out.push('"');
                for c in text.chars() {
                    match c {
                        '"' | '\\' => {
                            out.push('\\');
                            out.push(c);
                        }
                        c if c < ' ' => write!(out, "\\u{:04x}", c as u32).unwrap_or_default(),
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
            Self::Plain(text) => out.push_str(text),
            Self::List(items) if items.is_empty() => out.push_str("[]"),
            Self::List(items) if items.iter().all(|i| matches!(i, Self::Plain(_))) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { ", " });
                    item.write(out, depth);
                }
                out.push(']');
            }
            Self::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "\n" } else { ",\n" });
                    out.push_str(&pad);
                    item.write(out, depth + 1);
                }
                out.push('\n');
                out.push_str(&"  ".repeat(depth));
                out.push(']');
            }
            Self::Map(entries) => {
                out.push('{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if i == 0 { "\n" } else { ",\n" });
                    out.push_str(&pad);
                    write!(out, "\"{key}\": ").unwrap_or_default();
                    value.write(out, depth + 1);
                }
                out.push('\n');
                out.push_str(&"  ".repeat(depth));
                out.push('}');
            }
        }
    }
}

fn camel(snake: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in snake.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            out.extend(c.to_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}

fn name(form: Form, snake: &str) -> Json {
    Json::text(match form {
        Form::Current => snake.to_owned(),
        Form::Legacy => camel(snake),
    })
}

fn kind(form: Form, of: Kind) -> Json {
    match (of, form) {
        (Kind::Primitive("pubkey"), Form::Legacy) => Json::text("publicKey"),
        (Kind::Primitive(primitive), _) => Json::text(primitive),
        (Kind::Array(item, count), _) => Json::Map(vec![(
            "array",
            Json::List(vec![kind(form, *item), Json::number(count)]),
        )]),
        (Kind::Defined(defined), Form::Current) => Json::Map(vec![(
            "defined",
            Json::Map(vec![("name", Json::text(defined))]),
        )]),
        (Kind::Defined(defined), Form::Legacy) => Json::Map(vec![("defined", Json::text(defined))]),
    }
}

fn with_docs(mut entries: Vec<(&'static str, Json)>, docs: &[&str]) -> Json {
    if !docs.is_empty() {
        let lines = docs.iter().map(|line| Json::text(line.trim())).collect();
        entries.insert(1, ("docs", Json::List(lines)));
    }
    Json::Map(entries)
}

fn fields(form: Form, of: &[FieldEntry]) -> Json {
    Json::List(
        of.iter()
            .map(|field| {
                with_docs(
                    vec![
                        ("name", name(form, field.name)),
                        ("type", kind(form, field.kind)),
                    ],
                    field.docs,
                )
            })
            .collect(),
    )
}

fn type_entry(form: Form, of: &Struct) -> Json {
    with_docs(
        vec![
            ("name", Json::text(of.name)),
            (
                "type",
                Json::Map(vec![
                    ("kind", Json::text("struct")),
                    ("fields", fields(form, of.fields)),
                ]),
            ),
        ],
        of.docs,
    )
}

fn head(namespace: &str, of: &str) -> Json {
    Json::List(
        discriminator(namespace, of)
            .iter()
            .map(Json::number)
            .collect(),
    )
}

fn account_entry(form: Form, of: &AccountEntry) -> Json {
    let (signer, writable, optional) = (
        of.flags & flag::signer != 0,
        of.flags & flag::writable != 0,
        of.flags & flag::optional != 0,
    );
    let mut entries = vec![("name", name(form, of.name))];
    match form {
        Form::Current => {
            for (key, set) in [
                ("writable", writable),
                ("signer", signer),
                ("optional", optional),
            ] {
                if set {
                    entries.push((key, Json::number(true)));
                }
            }
        }
        Form::Legacy => {
            entries.push(("isMut", Json::number(writable)));
            entries.push(("isSigner", Json::number(signer)));
            if optional {
                entries.push(("isOptional", Json::number(true)));
            }
        }
    }
    with_docs(entries, of.docs)
}

fn instruction_entry(form: Form, of: &Instruction) -> Json {
    let mut entries = vec![("name", name(form, of.name))];
    if form == Form::Current {
        entries.push(("discriminator", head("global", of.name)));
    }
    let accounts = of.accounts.iter().map(|a| account_entry(form, a)).collect();
    entries.push(("accounts", Json::List(accounts)));
    entries.push(("args", fields(form, of.args)));
    with_docs(entries, of.docs)
}

fn error_entry(of: &ErrorEntry) -> Json {
    Json::Map(vec![
        ("code", Json::number(of.code)),
        ("name", Json::text(of.name)),
        ("msg", Json::text(of.message)),
    ])
}

fn headed(namespace: &str, of: &[Struct]) -> Json {
    let entry = |s: &Struct| {
        Json::Map(vec![
            ("name", Json::text(s.name)),
            ("discriminator", head(namespace, s.name)),
        ])
    };
    Json::List(of.iter().map(entry).collect())
}

fn records() -> impl Iterator<Item = &'static Struct> {
    state::RECORDS.iter().chain(messages::RECORDS)
}

fn legacy_event(of: &Struct) -> Json {
    let entry = |f: &FieldEntry| {
        Json::Map(vec![
            ("name", name(Form::Legacy, f.name)),
            ("type", kind(Form::Legacy, f.kind)),
            ("index", Json::number(false)),
        ])
    };
    Json::Map(vec![
        ("name", Json::text(of.name)),
        ("fields", Json::List(of.fields.iter().map(entry).collect())),
    ])
}

/// The whole IDL as text.
#[must_use]
pub fn render(form: Form) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let instructions = instructions::ALL
        .iter()
        .map(|i| instruction_entry(form, i))
        .collect();
    let errors = Json::List(errors::ALL.iter().map(error_entry).collect());
    let json = match form {
        Form::Current => Json::Map(vec![
            ("address", Json::text(LOCALNET_ADDRESS)),
            (
                "metadata",
                Json::Map(vec![
                    ("name", Json::text(NAME)),
                    ("version", Json::text(version)),
                    ("spec", Json::text("0.1.0")),
                    ("description", Json::text(env!("CARGO_PKG_DESCRIPTION"))),
                ]),
            ),
            ("instructions", Json::List(instructions)),
            ("accounts", headed("account", state::ALL)),
            ("events", headed("event", events::ALL)),
            ("errors", errors),
            (
                "types",
                Json::List(
                    records()
                        .chain(state::ALL)
                        .chain(events::ALL)
                        .map(|s| type_entry(form, s))
                        .collect(),
                ),
            ),
        ]),
        Form::Legacy => Json::Map(vec![
            ("version", Json::text(version)),
            ("name", Json::text(NAME)),
            ("instructions", Json::List(instructions)),
            (
                "accounts",
                Json::List(state::ALL.iter().map(|s| type_entry(form, s)).collect()),
            ),
            (
                "types",
                Json::List(records().map(|s| type_entry(form, s)).collect()),
            ),
            (
                "events",
                Json::List(events::ALL.iter().map(legacy_event).collect()),
            ),
            ("errors", errors),
        ]),
    };
    let mut out = String::new();
    json.write(&mut out, 0);
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_survive_anchorpys_case_changes() {
        let mut seen = HashSet::new();
        for instruction in instructions::ALL {
            assert!(seen.insert(instruction.name));
            let names = instruction
                .args
                .iter()
                .map(|f| f.name)
                .chain(instruction.accounts.iter().map(|a| a.name));
            for name in names {
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            }
        }
        for entry in state::ALL.iter().chain(events::ALL).chain(records()) {
            assert!(seen.insert(entry.name), "{}", entry.name);
        }
    }
}

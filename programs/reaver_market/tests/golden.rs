//! The vectors that the Python side is tested with (`tests/golden/`), held against the program's own code.

use std::{fs, path::Path};

use reaver_market::{
    declare::{bytes_of, discriminator},
    events, idl, instructions,
    math::{amount_due_floor, fee_ceil},
    messages::{self, Claim, Voucher},
    quantities::{Bps, Count, Key, Millis, Number, Price, Reason, Time, Tokens},
    state::{self, Account, Config, Escrow, Market, Node, Pool, Position, Vault},
};
use serde_json::Value;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).expect("the vectors are there")).expect("JSON")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let items = value[name].as_array().expect("a list");
    assert!(!items.is_empty(), "{name} holds no vector");
    items
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

fn hash(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("32 bytes")
}

fn key(value: &Value) -> Key {
    Key(hash(value))
}

/// A number as text, or as a JSON number.
fn number<T: std::str::FromStr>(value: &Value) -> T {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is out of range"))
}

#[test]
fn claims() {
    for vector in list(&golden("messages.json"), "claims") {
        let f = &vector["fields"];
        let claim = Claim {
            program_id: key(&f["program_id"]),
            genesis_hash: hash(&f["genesis_hash"]),
            escrow: key(&f["escrow"]),
            attempt: Count::new(number(&f["attempt"])),
            market: key(&f["market"]),
            node: key(&f["node"]),
            class_id: bytes(&f["class_id"]).try_into().expect("16 bytes"),
            price: Price::new(number(&f["price_per_hour"])),
            time_left: Millis::new(number(&f["remaining_max_ms"])),
            deposit_left: Tokens::new(number(&f["remaining_deposit"])),
            terms_hash: hash(&f["terms_hash"]),
            fee_bps: Bps::new(number(&f["fee_bps"])),
            at: Time::new(number(&f["at_ms"])),
        };
        assert_eq!(bytes_of(&claim), bytes(&vector["packed"]));
        assert_eq!(claim.message().as_slice(), bytes(&vector["signed"]));
    }
}

#[test]
fn vouchers() {
    for vector in list(&golden("messages.json"), "vouchers") {
        let f = &vector["fields"];
        let voucher = Voucher {
            program_id: key(&f["program_id"]),
            genesis_hash: hash(&f["genesis_hash"]),
            escrow: key(&f["escrow"]),
            attempt: Count::new(number(&f["attempt"])),
            wallet: key(&f["wallet"]),
            node: key(&f["node"]),
            sequence: Number::new(number(&f["sequence"])),
            started_at: Time::new(number(&f["started_at_ms"])),
            at: Time::new(number(&f["at_ms"])),
            billed: Millis::new(number(&f["billed_ms"])),
            amount: Tokens::new(number(&f["amount"])),
            state: number(&f["state"]),
            reason: Reason::new(number(&f["reason"])),
            digest: hash(&f["digest"]),
        };
        assert_eq!(bytes_of(&voucher), bytes(&vector["packed"]));
        assert_eq!(voucher.message().as_slice(), bytes(&vector["signed"]));
    }
}

#[test]
fn amounts_and_fees() {
    let money = golden("money.json");
    for vector in list(&money, "amount_due") {
        let due = amount_due_floor(
            Price::new(number(&vector["price_per_hour"])),
            Millis::new(number(&vector["billed_ms"])),
        );
        if vector["amount"].is_null() {
            assert!(due.is_err(), "{vector}");
        } else {
            assert_eq!(
                due.map(Tokens::get),
                Ok(number(&vector["amount"])),
                "{vector}"
            );
        }
    }
    for vector in list(&money, "fee_ceil") {
        let fee = fee_ceil(
            Tokens::new(number(&vector["amount"])),
            Bps::new(number(&vector["bps"])),
        );
        assert_eq!(fee.map(Tokens::get), Ok(number(&vector["fee"])), "{vector}");
    }
}

fn named(vectors: &Value, kind: &str, names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let entries = vectors[kind].as_object().expect("an object");
    let mut expected: Vec<&str> = names.to_vec();
    expected.sort_unstable();
    let mut found: Vec<&str> = entries.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "{kind}");
    entries
        .iter()
        .map(|(name, value)| (name.clone(), bytes(value)))
        .collect()
}

#[test]
fn every_instruction_account_and_event_has_its_discriminator_and_length() {
    let vectors = golden("program_bytes.json");
    let records = || state::RECORDS.iter().chain(messages::RECORDS);
    let sizes = |fields: &[idl::FieldEntry]| -> usize {
        fields
            .iter()
            .map(|field| match field.kind {
                reaver_market::declare::Kind::Defined(name) => records()
                    .find(|record| record.name == name)
                    .expect("declared")
                    .size(state::RECORDS),
                _ => idl::size_of(std::slice::from_ref(field), state::RECORDS),
            })
            .sum()
    };

    let names: Vec<_> = instructions::ALL.iter().map(|i| i.name).collect();
    for (name, data) in named(&vectors, "instructions", &names) {
        let of = instructions::ALL
            .iter()
            .find(|i| i.name == name)
            .expect("declared");
        assert_eq!(data[..8], discriminator("global", &name), "{name}");
        assert_eq!(data.len(), 8 + sizes(of.args), "{name}");
    }
    for (kind, namespace, all) in [
        ("accounts", "account", state::ALL),
        ("events", "event", events::ALL),
    ] {
        let names: Vec<_> = all.iter().map(|s| s.name).collect();
        for (name, data) in named(&vectors, kind, &names) {
            let of = all.iter().find(|s| s.name == name).expect("declared");
            assert_eq!(data[..8], discriminator(namespace, &name), "{name}");
            assert_eq!(data.len(), 8 + sizes(of.fields), "{name}");
        }
    }
}

/// Fields of accounts read at their place, against the offsets that Python's `struct` gave.
#[test]
fn accounts_are_read_where_python_wrote_them() {
    let vectors = golden("program_bytes.json");
    let account = |name: &str| bytes(&vectors["accounts"][name]);
    fn view<T: Account>(data: &[u8]) -> &T {
        state::check(data, T::HEAD.0, T::HEAD.1).expect("loads");
        reaver_market::declare::view_of(data).expect("has the length")
    }
    // the sample value of a key is the hash of its path
    let at = |path: &str| Key(reaver_market::hash::sha256(path.as_bytes()));

    let data = account("Config");
    assert_eq!(
        view::<Config>(&data).emission_vault,
        at("Config.emission_vault")
    );
    let data = account("Market");
    assert_eq!(view::<Market>(&data).fee_vault, at("Market.fee_vault"));
    let data = account("Node");
    assert_eq!(view::<Node>(&data).payout, at("Node.payout"));
    let data = account("Pool");
    assert_eq!(view::<Pool>(&data).fee_vault, at("Pool.fee_vault"));
    let data = account("Position");
    assert_eq!(
        view::<Position>(&data).rent_payer,
        at("Position.rent_payer")
    );
    let data = account("Vault");
    assert_eq!(
        view::<Vault>(&data).token_account,
        at("Vault.token_account")
    );
    let data = account("Escrow");
    let escrow = view::<Escrow>(&data);
    assert_eq!(escrow.rent_payer, at("Escrow.rent_payer"));
    assert_eq!(escrow.attempt.meter, at("Escrow.attempt.meter"));
    assert_eq!(
        escrow.contest.attempt.meter,
        at("Escrow.contest.attempt.meter")
    );
}

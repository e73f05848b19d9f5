//! Writes the IDL in both forms, or with `--check` compares them with the files.

use std::{env, fs, path::Path, process::ExitCode};

use reaver_market::idl::{render, Form};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (check, folder) = match arguments.as_slice() {
        [flag, folder] if flag == "--check" => (true, folder),
        [folder] => (false, folder),
        _ => {
            eprintln!("usage: idl [--check] FOLDER");
            return ExitCode::from(2);
        }
    };
    for (name, form) in [
        ("reaver_market.json", Form::Current),
        ("reaver_market.legacy.json", Form::Legacy),
    ] {
        let path = Path::new(folder).join(name);
        let text = render(form);
        if check {
            if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
                eprintln!(
                    "{} differs from the sources: run scripts/generate-idl",
                    path.display()
                );
                return ExitCode::FAILURE;
            }
        } else if let Err(error) = fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

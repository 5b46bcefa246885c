//! `baton completions`, `baton man`: made from the verbs themselves, so never behind them.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::client::Failure;
use crate::verbs::{Cli, Completions, Man};

pub fn completions(arguments: &Completions) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "baton", &mut script);
    print(&script)
}

pub fn man(arguments: &Man) -> Result<u8, Failure> {
    let Some(folder) = &arguments.out else {
        let mut page = Vec::new();
        let made = clap_mangen::Man::new(Cli::command()).render(&mut page);
        made.map_err(|error| Failure::failed(error.to_string()))?;
        return print(&page);
    };
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|error| cannot_write(folder, &error))?;
    Ok(wire::exit::OK)
}

fn cannot_write(folder: &Path, error: &io::Error) -> Failure {
    Failure::config(
        format!("{}: {error}", folder.display()),
        "name a folder that exists and can be written",
    )
}

/// A reader that has seen enough closes the pipe: that is no failure.
fn print(bytes: &[u8]) -> Result<u8, Failure> {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {error}")))
        }
        _ => Ok(wire::exit::OK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap_complete::Shell;

    fn script(shell: Shell) -> String {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "baton", &mut script);
        String::from_utf8(script).expect("scripts are text")
    }

    #[test]
    fn every_verb_is_completed_and_has_a_page_and_a_place_in_the_help() {
        let folder = tempfile::tempdir().expect("a folder");
        clap_mangen::generate_to(Cli::command(), folder.path()).expect("pages");
        let (bash, help) = (script(Shell::Bash), Cli::command().render_help().to_string());
        let command = Cli::command();
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        for name in verbs.map(clap::Command::get_name) {
            assert!(bash.contains(&format!("baton,{name})")), "{name} is not completed");
            assert!(folder.path().join(format!("baton-{name}.1")).is_file(), "{name} has no page");
            assert!(help.contains(&format!("\n  {name} ")), "{name} is in no group of the help");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = Some(folder.path().join("nowhere"));
        let failure = man(&Man { out }).expect_err("there is no such folder");
        assert_eq!(failure.code, wire::exit::CONFIG);
        assert!(failure.problem.error.contains("nowhere"), "{failure}");
    }
}

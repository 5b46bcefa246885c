//! `shrink`: a seed that fails, as a short scenario.

use std::fmt::Write;

use simulation::seed::Options;
use simulation::shrink::{ShrinkError, shrink as shorten};

use super::{FAILED, OK, ShrinkArgs};

pub(super) fn shrink(args: &ShrinkArgs) -> anyhow::Result<u8> {
    let options = Options { minutes: args.minutes, talkative: false };
    let shrunk = match shorten(args.seed, &options, |left| eprintln!("{left} deeds are left")) {
        Ok(shrunk) => shrunk,
        Err(ShrinkError::Well(seed)) => {
            println!("seed {seed} fails nothing");
            return Ok(OK);
        }
        Err(error @ ShrinkError::Fickle(_)) => {
            println!("{error}");
            return Ok(FAILED);
        }
    };
    let name = format!("seed-{}.toml", args.seed);
    let file = args.out.clone().unwrap_or_else(|| name.into());
    let mut text = format!("# {}\n", shrunk.violation);
    for deed in &shrunk.unsaid {
        writeln!(text, "# not in words: {deed}")?;
    }
    text.push_str(&shrunk.scenario.to_toml()?);
    wire::files::write_durably(&file, text.as_bytes())?;
    println!(
        "{}: {} of {} deeds are left, written to {}; play it with `baton-sim run {}`",
        shrunk.violation,
        shrunk.deeds.1,
        shrunk.deeds.0,
        file.display(),
        file.display()
    );
    Ok(OK)
}

//! `list`: what there is.

use scenarios::script::{Tier, catalogue};

use super::{Format, ListArgs, OK};

pub(super) fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let all = catalogue()?;
    if args.output == Format::Json {
        let each: Vec<_> = all
            .iter()
            .map(|scenario| {
                serde_json::json!({
                    "name": scenario.name,
                    "id": scenario.id,
                    "summary": scenario.summary,
                    "replays": scenario.replays,
                    "tiers": scenario.tiers,
                    "also": scenario.also,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&each)?);
        return Ok(OK);
    }
    for scenario in &all {
        let mark = |tier, word| if scenario.is_for(tier) { word } else { "   -" };
        println!("{} {} {}", mark(Tier::Sim, " sim"), mark(Tier::Live, "live"), scenario.name);
    }
    let of = |tier| all.iter().filter(|scenario| scenario.is_for(tier)).count();
    println!("{} scenarios: {} simulated, {} live", all.len(), of(Tier::Sim), of(Tier::Live));
    Ok(OK)
}

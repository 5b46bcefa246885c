//! `sweep`: not by chance but all of it.

use simulation::sweep::{Swept, crash, length, partition};

use super::progress::{Progress, shared};
use super::{FAILED, OK, Sweep, SweepArgs};

pub(super) fn sweep(args: &SweepArgs) -> anyhow::Result<u8> {
    let (all, elapsed) = match args.what {
        Sweep::Crash => {
            let tracks = crash::tracks();
            let progress = Progress::new("processes", tracks.len() as u64);
            let runs = shared(&tracks, args.jobs, |track| {
                let swept = crash::sweep(track);
                progress.one();
                (swept, false)
            });
            let runs: Vec<Vec<Swept>> = runs.into_iter().collect::<Result<_, _>>()?;
            (runs.into_iter().flatten().collect::<Vec<_>>(), progress.elapsed())
        }
        Sweep::Partition => {
            let cases = partition::cases()?;
            let progress = Progress::new("patterns", cases.len() as u64);
            let runs = shared(&cases, args.jobs, |case| {
                let swept = partition::sweep(case);
                progress.one();
                (swept, false)
            });
            (runs.into_iter().collect::<Result<_, _>>()?, progress.elapsed())
        }
        Sweep::Length => {
            let cases = length::cases(args.seeds);
            let progress = Progress::new("lengths", cases.len() as u64);
            let runs = shared(&cases, args.jobs, |case| {
                let swept = length::sweep(case);
                progress.one();
                (swept, false)
            });
            (runs.into_iter().collect::<Result<_, _>>()?, progress.elapsed())
        }
    };
    let mut failed = 0;
    let mut simulated = 0.0;
    for swept in &all {
        simulated += swept.simulated.as_secs_f64();
        if let Some(problem) = &swept.problem {
            failed += 1;
            println!("violation: {} {problem}", swept.name);
        }
    }
    println!(
        "{} of {} runs as they should be; {:.1} h simulated in {:.1} s",
        all.len() - failed,
        all.len(),
        simulated / 3_600.0,
        elapsed.as_secs_f64()
    );
    Ok(if failed == 0 && !all.is_empty() { OK } else { FAILED })
}

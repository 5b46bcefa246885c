//! What Linux knows of this very process, by the names that Prometheus' own libraries use: one
//! rule and one graph fit every daemon, ours or not.

use std::fs;

use super::exposition::Metric;

/// Processor time used.
pub(super) const CPU: Metric = Metric::counter(
    "process_cpu_seconds_total",
    &[],
    "Processor time used by this process, of users and of the kernel",
);
/// Memory held.
pub(super) const RESIDENT: Metric =
    Metric::gauge("process_resident_memory_bytes", &[], "Memory that this process holds");
/// Memory asked for.
pub(super) const VIRTUAL: Metric =
    Metric::gauge("process_virtual_memory_bytes", &[], "Address space of this process");
/// Files and sockets open.
pub(super) const FDS: Metric =
    Metric::gauge("process_open_fds", &[], "Files and sockets that this process has open");
/// As many as it may have open.
pub(super) const MAX_FDS: Metric = Metric::gauge(
    "process_max_fds",
    &[],
    "How many it may have open; absent where nothing limits it",
);
/// When it began.
pub(super) const START: Metric = Metric::gauge(
    "process_start_time_seconds",
    &[],
    "When this process began, in Unix time by the clock that the machine had when it started",
);

/// The kernel tells processor time in this many parts of a second, on every machine that we are
/// built for.
const TICKS: f64 = 100.0;

/// What was found; what cannot be read is not told.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) started: Option<f64>,
    pub(super) resident: Option<u64>,
    pub(super) address_space: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

/// Looks at this process.
pub(super) fn look() -> Process {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let mut found = parsed(
        &read("/proc/self/stat"),
        &read("/proc/self/status"),
        (&read("/proc/self/limits"), &read("/proc/stat")),
    );
    // Less the one by which it is looked at.
    let open = fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1));
    found.open_fds = open.and_then(|count| u64::try_from(count).ok());
    found
}

fn parsed(stat: &str, status: &str, (limits, machine): (&str, &str)) -> Process {
    // The program's name is in brackets and may hold anything; the third field follows it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let after = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
    };
    let kib = |name: &str| after(status, name).map(|kib| kib.saturating_mul(1_024));
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit 2^53")]
    let boot = after(machine, "btime ").map(|seconds| seconds as f64);
    Process {
        cpu_seconds: field(14).zip(field(15)).map(|(user, kernel)| (user + kernel) / TICKS),
        started: boot.zip(field(22)).map(|(boot, ticks)| boot + ticks / TICKS),
        resident: kib("VmRSS:"),
        address_space: kib("VmSize:"),
        open_fds: None,
        max_fds: after(limits, "Max open files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 12345 1000 10 9";
        let status = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t   512 kB\n";
        let limits =
            "Max cpu time  unlimited unlimited seconds\nMax open files   1024  4096 files\n";
        let machine = "cpu 1 2 3\nbtime 1700000000\n";
        let expected = Process {
            cpu_seconds: Some(2.0),
            started: Some(1_700_000_123.45),
            resident: Some(524_288),
            address_space: Some(2_097_152),
            open_fds: None,
            max_fds: Some(1_024),
        };
        assert_eq!(parsed(stat, status, (limits, machine)), expected);
        let nothing = parsed("", "", ("Max open files unlimited unlimited files\n", ""));
        assert_eq!(nothing, Process::default(), "what is not known is not told");
    }

    #[test]
    fn this_process_is_seen() {
        let _held = fs::File::open("/proc/self/stat").expect("Linux has it");
        let found = look();
        assert!(found.open_fds.is_some_and(|count| count > 3), "{found:?}");
        assert!(found.resident.is_some_and(|bytes| bytes > 100_000), "{found:?}");
        assert!(found.started.is_some_and(|at| at > 1_500_000_000.0), "{found:?}");
        assert!(found.cpu_seconds.is_some() && found.max_fds.is_some(), "{found:?}");
    }
}

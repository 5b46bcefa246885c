//! The only place that reads a clock.

use failover::time::{Moment, Timestamp};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// The monotonic clock that also counts suspended time (`CLOCK_BOOTTIME`), in microseconds: a
/// lease must not outlive a laptop lid. Comparable between the processes of one boot only.
pub fn now() -> Moment {
    let read = read(ClockId::CLOCK_BOOTTIME);
    let seconds = u64::try_from(read.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(read.tv_nsec() / 1_000).unwrap_or(0);
    Moment(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

/// The wall clock, in milliseconds since 1970-01-01 UTC: for audit, reports and certificates,
/// never for a decision (I-23).
pub fn wall() -> Timestamp {
    let read = read(ClockId::CLOCK_REALTIME);
    Timestamp(read.tv_sec().saturating_mul(1_000).saturating_add(read.tv_nsec() / 1_000_000))
}

/// The same in microseconds, 0 before 1970: orders the starts of one program, as far as its
/// clock is not set back.
pub fn wall_micros() -> u64 {
    let read = read(ClockId::CLOCK_REALTIME);
    let micros = read.tv_sec().saturating_mul(1_000_000).saturating_add(read.tv_nsec() / 1_000);
    u64::try_from(micros).unwrap_or(0)
}

fn read(clock: ClockId) -> TimeSpec {
    clock_gettime(clock).expect("Linux has both clocks since 2.6.39 and the pointer is ours")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_does_not_go_back() {
        let earlier = super::now();
        assert!(super::now() >= earlier);
        assert!(super::wall().0 > 1_700_000_000_000);
    }
}

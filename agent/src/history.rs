//! Timelines and ends of write-ahead logs, read from files.

use crate::layout::sync_folder;
use failover::position::{Position, Switch};
use failover::{Epoch, Lsn, SystemIdentifier, Timeline};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What `pg_control` says. The fields read here have had the same places since PostgreSQL 9.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The cluster's identifier.
    pub system_identifier: SystemIdentifier,
    /// A primary's clean shutdown.
    pub shut_down: bool,
    /// It last ran as a primary, not as a standby.
    pub led: bool,
    /// Where the last checkpoint's record begins.
    pub checkpoint: Lsn,
    /// Its timeline.
    pub timeline: Timeline,
    /// Bytes in one WAL segment.
    pub segment: u64,
}

/// Reads `global/pg_control`.
///
/// # Errors
/// Those of the file system; a file that is too short.
pub fn control(data: &Path) -> io::Result<Control> {
    let mut bytes = [0u8; 512];
    File::open(data.join("global/pg_control"))?.read_exact(&mut bytes)?;
    let long = |at: usize| {
        let mut word = [0u8; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    let short = |at: usize| {
        let mut word = [0u8; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        u32::from_ne_bytes(word)
    };
    Ok(Control {
        system_identifier: SystemIdentifier(long(0)),
        shut_down: short(16) == 1,
        // Shut down, shutting down, in crash recovery, in production.
        led: matches!(short(16), 1 | 3 | 4 | 6),
        checkpoint: Lsn(long(32)),
        timeline: Timeline(short(48)),
        segment: segment_size(data),
    })
}

/// The first page of any segment names the segment's size.
fn segment_size(data: &Path) -> u64 {
    const DEFAULT: u64 = 16 << 20;
    segments(&data.join("pg_wal"))
        .into_iter()
        .find_map(|name| std::fs::metadata(data.join("pg_wal").join(name)).ok())
        .map(|file| file.len())
        // A file that was cut short says nothing.
        .filter(|size| size.is_power_of_two() && *size >= 1 << 20)
        .unwrap_or(DEFAULT)
}

/// The names of the WAL segments of a folder, in order.
pub fn segments(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_segment =
        |name: &String| name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(is_segment)
        .collect();
    names.sort();
    names
}

/// The newest timeline of which there is log.
pub fn newest_timeline(data: &Path) -> Timeline {
    let names = segments(&data.join("pg_wal"));
    let digits = names.last().and_then(|name| name.get(..8));
    Timeline(digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0))
}

/// A segment's name: timeline, and the position it begins at.
pub fn parse_segment(name: &str, segment: u64) -> Option<(Timeline, Lsn)> {
    let part = |range: std::ops::Range<usize>| u64::from_str_radix(name.get(range)?, 16).ok();
    let per_file = (1u64 << 32).checked_div(segment)?;
    let number = part(8..16)?.checked_mul(per_file)?.checked_add(part(16..24)?)?;
    let timeline = u32::try_from(part(0..8)?).ok()?;
    Some((Timeline(timeline), Lsn(number.checked_mul(segment)?)))
}

/// The name of the segment that holds the byte at `lsn`.
pub fn segment_name(timeline: Timeline, lsn: Lsn, segment: u64) -> String {
    let number = lsn.0 / segment;
    let per_file = (1u64 << 32) / segment;
    format!("{:08X}{:08X}{:08X}", timeline.0, number / per_file, number % per_file)
}

/// The history file's name.
pub fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

/// Makes the timeline of the promotion to come the number of its epoch, so that no two primaries
/// ever make the same one. PostgreSQL takes the number after the newest history file that it has;
/// an instance that never heard of a timeline would take its number again, and then neither
/// `pg_rewind` nor a walsender nor [`Position`] could tell the two apart (I-05). So every number
/// below the epoch's that has no history file gets an empty one: no timeline ever left it, and
/// whoever reads it finds that it descends from nobody.
///
/// # Errors
/// Those of the file system; then there must be no promotion.
pub fn reserve(data: &Path, epoch: Epoch) -> io::Result<()> {
    let folder = data.join("pg_wal");
    let end = u32::try_from(epoch.0).map_err(|_| io::Error::other("epochs have run out"))?;
    let mut made = false;
    for number in 2..end {
        let path = folder.join(file_name(Timeline(number)));
        match File::options().write(true).create_new(true).open(path) {
            Ok(file) => {
                file.sync_all()?;
                made = true;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    if made { sync_folder(&folder) } else { Ok(()) }
}

/// Forgets history files of timelines of which no log is here: those of a promotion that did not
/// come about, or of a primary that was never followed so far. What is needed of them is fetched
/// again; what is not would keep a standby from starting, which looks for the newest.
///
/// # Errors
/// Those of the file system.
pub fn forget_unreached(data: &Path) -> io::Result<()> {
    let folder = data.join("pg_wal");
    let known = control(data).map_or(Timeline(0), |control| control.timeline);
    let reached = newest_timeline(data).max(known);
    let mut forgotten = false;
    for entry in std::fs::read_dir(&folder)?.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".history"));
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if number.is_some_and(|number| Timeline(number) > reached) {
            std::fs::remove_file(entry.path())?;
            forgotten = true;
        }
    }
    if forgotten { sync_folder(&folder) } else { Ok(()) }
}

/// Reads a history file's text: lines of `timeline  position  reason`.
pub fn parse(text: &str) -> Vec<Switch> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let timeline = Timeline(fields.next()?.parse().ok()?);
        Some(Switch { timeline, at: fields.next()?.parse().ok()? })
    };
    text.lines().map(|text| text.split('#').next().unwrap_or_default()).filter_map(line).collect()
}

/// Every earlier timeline of `timeline`. `None`: its history file is missing.
pub fn of(data: &Path, timeline: Timeline) -> Option<Vec<Switch>> {
    if timeline.0 <= 1 {
        return Some(Vec::new());
    }
    let path = data.join("pg_wal").join(file_name(timeline));
    std::fs::read_to_string(path).ok().map(|text| parse(&text))
}

/// A position with its history. A place before the last switch is on the timeline that was left.
pub fn position(data: &Path, timeline: Timeline, lsn: Lsn) -> Option<Position> {
    let mut history = of(data, timeline)?;
    let mut timeline = timeline;
    while let Some(last) = history.last().copied()
        && lsn < last.at
    {
        history.pop();
        timeline = last.timeline;
    }
    Some(Position { timeline, history, lsn })
}

/// The timeline of the segment that holds the last byte before `lsn`: the newest, where a branch
/// begins within it. For a standby that streams from nobody.
pub fn timeline_at(data: &Path, lsn: Lsn) -> Option<Timeline> {
    let folder = data.join("pg_wal");
    let segment = segment_size(data);
    let last = Lsn(lsn.0.saturating_sub(1));
    segments(&folder)
        .iter()
        .filter_map(|name| parse_segment(name, segment))
        .filter(|(_, start)| start.0 / segment == last.0 / segment)
        .map(|(timeline, _)| timeline)
        .max()
}

/// Where a cleanly stopped primary's log ends: behind the record of its shutdown checkpoint.
pub fn clean_end(data: &Path, control: &Control) -> Option<Position> {
    if !control.shut_down {
        return None;
    }
    let name = segment_name(control.timeline, control.checkpoint, control.segment);
    let file = File::open(data.join("pg_wal").join(name)).ok()?;
    let mut length = [0u8; 4];
    file.read_exact_at(&mut length, control.checkpoint.0 % control.segment).ok()?;
    let length = u64::from(u32::from_ne_bytes(length));
    let end = record_end(control.checkpoint, length, control.segment);
    position(data, control.timeline, end)
}

/// Where a record of `length` bytes ends, page headers in between counted, rounded up to eight.
fn record_end(start: Lsn, length: u64, segment: u64) -> Lsn {
    const PAGE: u64 = 8192;
    let mut at = start.0;
    let mut left = length.div_ceil(8) * 8;
    loop {
        let room = PAGE - at % PAGE;
        if left <= room {
            return Lsn(at + left);
        }
        left -= room;
        at += room;
        at += if at.is_multiple_of(segment) { 40 } else { 24 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 << 20;

    #[test]
    fn segment_names_are_those_of_postgresql() {
        let name = segment_name(Timeline(2), Lsn(0x1_0300_0028), SEGMENT);
        assert_eq!(name, "000000020000000100000003");
        let (timeline, start) = parse_segment(&name, SEGMENT).unwrap();
        assert_eq!((timeline, start), (Timeline(2), Lsn(0x1_0300_0000)));
    }

    /// I-27: a power cut may leave a segment without a byte; nothing is divided by its size.
    #[test]
    fn i27_a_segment_cut_short_is_no_measure() {
        let data = tempfile::tempdir().unwrap();
        let wal = data.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        std::fs::write(wal.join("000000020000000000000003"), b"").unwrap();
        assert_eq!(segment_size(data.path()), SEGMENT);
        assert_eq!(timeline_at(data.path(), Lsn(0x300_0010)), Some(Timeline(2)));
        assert_eq!(newest_timeline(data.path()), Timeline(2));
    }

    /// I-05: numbers below an epoch's are taken, real histories kept, and what came to nothing is
    /// forgotten before a start.
    #[test]
    fn i05_the_timeline_of_an_epoch_is_its_number() {
        let data = tempfile::tempdir().unwrap();
        let wal = data.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        std::fs::write(wal.join("000000020000000000000003"), b"").unwrap();
        std::fs::write(wal.join("00000002.history"), b"1\t0/3000000\tx\n").unwrap();
        reserve(data.path(), Epoch(5)).unwrap();
        let length = |name: &str| std::fs::metadata(wal.join(name)).ok().map(|file| file.len() > 0);
        assert_eq!(length("00000002.history"), Some(true));
        assert_eq!(length("00000003.history"), Some(false));
        assert_eq!(length("00000004.history"), Some(false));
        assert_eq!(length("00000005.history"), None);
        forget_unreached(data.path()).unwrap();
        assert_eq!(length("00000002.history"), Some(true));
        assert_eq!(length("00000003.history"), None);
        assert_eq!(length("00000004.history"), None);
    }

    #[test]
    fn history_files_are_read() {
        let text = "1\t0/3000A10\tno recovery target specified\n\n2\t0/5000000\tx\n";
        let switches = parse(text);
        assert_eq!(switches.len(), 2);
        assert_eq!(
            switches.get(1).map(|s| (s.timeline, s.at)),
            Some((Timeline(2), Lsn(0x500_0000)))
        );
    }

    #[test]
    fn records_that_cross_a_page_end_behind_its_header() {
        assert_eq!(record_end(Lsn(0x28), 114, SEGMENT), Lsn(0x28 + 120));
        assert_eq!(record_end(Lsn(8192 - 16), 114, SEGMENT), Lsn(8192 + 24 + 104));
        assert_eq!(record_end(Lsn(SEGMENT - 8), 114, SEGMENT), Lsn(SEGMENT + 40 + 112));
    }
}

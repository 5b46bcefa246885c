//! The second factor of people: a time-based code (RFC 6238) beside the certificate.
//!
//! The voter that is asked checks it against the person's secret, which lies in a file of its own
//! and never in the replicated log. What it tells the leader is the step of the code, and the law
//! sees to it that no step is good twice ([`failover::people`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use failover::{Moment, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use totp_rs::{Builder, Totp};

use crate::outside::secret;

/// The header of a request that a code comes in.
pub const HEADER: &str = "baton-code";
/// So many wrong codes of a person are looked at in [`WITHIN`]: guessing must be throttled
/// (RFC 4226, 7.3).
const TRIES: u32 = 5;
const WITHIN: Duration = Duration::from_mins(5);
/// The length of a secret in bytes: that of the hash (RFC 4226, 4).
const SECRET: usize = 20;

/// The secrets beside a voter, and who gave wrong codes lately.
#[derive(Debug)]
pub struct Codes {
    folder: PathBuf,
    wrong: Mutex<BTreeMap<String, (u32, Moment)>>,
}

impl Codes {
    /// Of a folder with a file for each person.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), wrong: Mutex::default() }
    }

    /// The step of a person's code, in 30 s since 1970. The step before this one and the one after
    /// it are good, too: clocks differ, and typing takes a while.
    ///
    /// # Errors
    /// Why the code is not taken, and what to do.
    pub fn check(
        &self,
        person: &str,
        code: &str,
        (wall, now): (Timestamp, Moment),
    ) -> Result<u64, String> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, (_, since)| now.since(*since) < WITHIN);
        if let Some((TRIES.., since)) = wrong.get(person) {
            let left = WITHIN.saturating_sub(now.since(*since)).as_secs() + 1;
            return Err(format!(
                "{TRIES} codes of {person} were wrong: this voter looks at the next in {left} s"
            ));
        }
        let totp = self.totp(person)?;
        let seconds = u64::try_from(wall.0 / 1_000).unwrap_or(0);
        if let Some(step) = totp.check(code, seconds) {
            wrong.remove(person);
            return Ok(step);
        }
        wrong.entry(person.to_owned()).or_insert((0, now)).0 += 1;
        Err(format!(
            "this is not the code of {person} now: give the one that the authenticator shows, and \
             see that its clock and this machine's are right"
        ))
    }

    fn totp(&self, person: &str) -> Result<Totp, String> {
        let file = self.folder.join(person);
        // A name that is no file's would leave the folder.
        if person.starts_with('.') || !file.is_file() {
            return Err(format!(
                "this voter knows no authenticator of {person}: `baton init TOPOLOGY --out FOLDER \
                 --update --totp {person}` makes {}, which every voter needs",
                file.display()
            ));
        }
        let url = secret(&file)?;
        Totp::from_url(&url).map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// A new secret of a person, as authenticators take it: an `otpauth` address.
///
/// # Errors
/// Where there are no random bytes, or a name cannot stand in such an address.
pub fn enrol(cluster: &str, person: &str) -> Result<String, String> {
    let mut bytes = vec![0; SECRET];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "no random bytes".to_owned())?;
    let issuer = format!("baton {cluster}");
    let totp = Builder::new()
        .with_secret(bytes)
        .with_account_name(person)
        .with_issuer(Some(issuer))
        .build();
    totp.and_then(|totp| totp.to_url()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> (tempfile::TempDir, Codes, Totp) {
        let folder = tempfile::tempdir().expect("a folder");
        let url = enrol("clinic", "alice").expect("random bytes");
        std::fs::write(folder.path().join("alice"), format!("{url}\n")).expect("writable");
        let totp = Totp::from_url(&url).expect("an address");
        let codes = Codes::of(folder.path());
        (folder, codes, totp)
    }

    fn at(seconds: u64) -> (Timestamp, Moment) {
        let millis = i64::try_from(seconds * 1_000).expect("small");
        (Timestamp(millis), Moment(seconds * 1_000_000))
    }

    #[test]
    fn i33_a_code_is_its_step_and_good_for_a_minute_at_the_most() {
        let (_folder, codes, totp) = alice();
        let code = totp.generate(3_000).to_string();
        for seconds in [2_970, 3_000, 3_029, 3_059] {
            assert_eq!(codes.check("alice", &code, at(seconds)), Ok(100), "{seconds}");
        }
        for seconds in [2_969, 3_060] {
            assert!(codes.check("alice", &code, at(seconds)).is_err(), "{seconds}");
        }
    }

    /// RFC 6238, appendix B, in six digits.
    #[test]
    fn i33_it_is_what_authenticators_show() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = "otpauth://totp/baton:rfc?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=baton";
        std::fs::write(folder.path().join("rfc"), url).expect("writable");
        let codes = Codes::of(folder.path());
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")]
        {
            assert_eq!(codes.check("rfc", code, at(seconds)), Ok(seconds / 30));
        }
    }

    #[test]
    fn i33_guessing_ends_after_a_few_and_is_each_person_s_own() {
        let (folder, codes, totp) = alice();
        std::fs::copy(folder.path().join("alice"), folder.path().join("bob")).expect("copied");
        for n in 0..TRIES {
            // Not a code, of the wrong length, of letters: all count.
            let wrong = ["", "1234567", "abcdef", "١٢٣٤٥٦", "12345"][n as usize];
            assert!(codes.check("alice", wrong, at(3_000)).is_err());
        }
        let code = totp.generate(3_000).to_string();
        let told = codes.check("alice", &code, at(3_001)).expect_err("too many");
        assert!(told.contains("in 300 s"), "{told}");
        assert_eq!(codes.check("bob", &code, at(3_001)), Ok(100));
        let later = totp.generate(3_300).to_string();
        assert_eq!(codes.check("alice", &later, at(3_300)), Ok(110));
    }

    #[test]
    fn i33_a_person_without_a_secret_is_told_how_to_get_one() {
        let (folder, codes, _) = alice();
        for person in ["bob", "..", ".", ""] {
            let told = codes.check(person, "123456", at(3_000)).expect_err("no secret");
            assert!(told.contains("--totp"), "{told}");
        }
        std::fs::write(folder.path().join("eve"), "hello\n").expect("writable");
        let told = codes.check("eve", "123456", at(3_000)).expect_err("no address");
        assert!(told.contains("eve"), "{told}");
    }
}

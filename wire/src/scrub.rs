//! Lines of logs without their secrets, for what leaves the house.
//!
//! Of PostgreSQL's log only what the server is known to say of itself is let through
//! ([`ServerLog`]): statements, parameters and what functions of users raise may hold anything.
//! From everything, that included, passwords, keys, tokens and connection strings are taken out by
//! their form ([`Scrubber`]). A form that nobody thought of would stay: whoever hands an archive on
//! reads it first.

mod server_log;

pub use server_log::{ServerLog, ServerLogWindow, server_time};

/// What stands where a secret was.
pub const LEFT_OUT: &str = "***";

/// Parts of names whose values are secrets.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "privatekey",
    "private_key",
    "credential",
    "authorization",
    "cookie",
];

/// Words of a connection string.
const CONNECTION: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "passfile",
    "service",
    "sslmode",
    "sslkey",
    "sslcert",
    "sslrootcert",
    "application_name",
    "connect_timeout",
    "options",
    "target_session_attrs",
    "channel_binding",
    "gssencmode",
    "keepalives",
    "replication",
];

/// Takes secrets out of one line after another: a key may go over many.
#[derive(Clone, Debug, Default)]
pub struct Scrubber {
    in_key: bool,
}

impl Scrubber {
    /// A line without its secrets.
    pub fn line(&mut self, line: &str) -> String {
        if self.in_key {
            self.in_key = !line.contains("-----END");
            return LEFT_OUT.to_owned();
        }
        if let Some((before, rest)) = line.split_once("-----BEGIN") {
            self.in_key = !rest.contains("-----END");
            return format!("{}{LEFT_OUT}", Self::default().line(before));
        }
        let line = addresses(line);
        let line = values(&line);
        bearers(&connection_strings(&line))
    }
}

/// A text of several lines without its secrets.
#[must_use]
pub fn text(text: &str) -> String {
    let mut scrubber = Scrubber::default();
    let lines: Vec<String> = text.split('\n').map(|line| scrubber.line(line)).collect();
    lines.join("\n")
}

/// `scheme://user:password@host`: without the user; a database's address, without anything.
fn addresses(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = (rest.get(..at).unwrap_or(""), rest.get(at + 3..).unwrap_or(""));
        let end = after.find(|c: char| c.is_whitespace() || "\"'`<>,;)]}".contains(c));
        let (address, remaining) = after.split_at(end.unwrap_or(after.len()));
        let authority = address.split(['/', '?', '#']).next().unwrap_or("");
        out.push_str(before);
        out.push_str("://");
        let scheme = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
        if scheme.starts_with("postgres") {
            out.push_str(LEFT_OUT);
        } else if authority.contains('@') {
            let host = address.split_once('@').map_or("", |(_, host)| host);
            out.push_str(LEFT_OUT);
            out.push('@');
            out.push_str(host);
        } else {
            out.push_str(address);
        }
        rest = remaining;
    }
    out.push_str(rest);
    out
}

/// `name=value`, `name: value`, `"name":"value"` where the name is a secret's.
fn values(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    loop {
        let Some(name_at) = next_secret(rest) else {
            out.push_str(rest);
            return out;
        };
        // The whole of the word that has it in it, then what stands between it and its value.
        let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name_end = rest.get(name_at..).and_then(|tail| tail.find(|c: char| !of_word(c)));
        let Some(name_end) = name_end.map(|length| name_at + length) else {
            out.push_str(rest);
            return out;
        };
        let tail = rest.get(name_end..).unwrap_or("");
        let value_at = tail.find(|c: char| !"\\\"' =:\t".contains(c)).unwrap_or(tail.len());
        let between = tail.get(..value_at).unwrap_or("");
        // `password 'x'` of SQL has no sign between, but a quotation mark.
        let is_value = between.contains(['=', ':', '\'']);
        out.push_str(rest.get(..name_end).unwrap_or(""));
        if !is_value {
            rest = tail;
            continue;
        }
        out.push_str(between);
        let value = tail.get(value_at..).unwrap_or("");
        // Where it began with a quotation mark it ends with one, and may have blanks.
        let quote = between.chars().rev().find(|c| *c == '"' || *c == '\'');
        let length = match quote {
            Some(quote) => end_of_quoted(value, quote),
            None => value.find(|c: char| c.is_whitespace() || ",;&)}]".contains(c)),
        };
        out.push_str(LEFT_OUT);
        let (word, after) = value.split_at(length.unwrap_or(value.len()));
        rest = after;
        // Of `Authorization: Bearer …` the value is the next word.
        if ["bearer", "basic", "digest", "negotiate"].contains(&&*word.to_ascii_lowercase()) {
            let after = after.trim_start();
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            rest = after.get(end..).unwrap_or("");
        }
    }
}

/// Where a text ends that began with this mark, which may stand in it after a `\`.
fn end_of_quoted(value: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        if c == quote && (!escaped || value.get(at + 1..).is_none_or(|rest| !rest.contains(quote)))
        {
            return Some(at);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn next_secret(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    SECRET.iter().filter_map(|name| lower.find(name)).min()
}

/// `host=… user=… dbname=…`: two such words in a row are a connection string.
fn connection_strings(line: &str) -> String {
    let is_one = |word: &str| {
        let word = word.trim_start_matches(['"', '\'', '\\', '(']);
        word.split_once('=').is_some_and(|(name, _)| {
            CONNECTION.contains(&name) || SECRET.iter().any(|secret| name.contains(secret))
        })
    };
    let words: Vec<&str> = line.split(' ').collect();
    let mut out: Vec<&str> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let many = words.iter().skip(at).take_while(|word| is_one(word)).count();
        if many >= 2 {
            out.push(LEFT_OUT);
            at += many;
        } else {
            out.push(word);
            at += 1;
        }
    }
    out.join(" ")
}

/// What looks like a signed token, whatever stands before it: `eyJ….eyJ….…`.
fn bearers(line: &str) -> String {
    let of_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("eyJ") {
        let token = rest.get(at..).unwrap_or("");
        let end = token.find(|c: char| !of_token(c)).unwrap_or(token.len());
        out.push_str(rest.get(..at).unwrap_or(""));
        out.push_str(if end > 20 { LEFT_OUT } else { token.get(..end).unwrap_or("") });
        rest = token.get(end..).unwrap_or("");
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_by_its_form_is_taken_out() {
        for line in [
            "password=hunter2",
            "PGPASSWORD='hunter2 is long' psql",
            "the passphrase: hunter2",
            "\"db_password\":\"hunter2\",\"x\":1",
            "{\\\"api_token\\\": \\\"hunter2\\\"}",
            "{\"secret\":\"a\\\"hunter2\"}",
            "alter role app password 'hunter2'",
            "ldapbindpasswd=\"hunter2\"",
            "radiussecrets=\"hunter2\"",
            "Authorization: Bearer hunter2",
            "Authorization: Basic hunter2 x",
            "Set-Cookie: session=hunter2; Path=/",
            "https://anna:hunter2@wiki.example/x",
            "postgresql://app:x@db.example/clinic?sslpassword=hunter2",
            "postgres://hunter2/clinic",
            "could not connect: host=10.0.0.1 user=hunter2 dbname=clinic",
            "parameter \"primary_conninfo\" changed to \"user=hunter2 sslkey=/x host=h\"",
            "-----BEGIN PRIVATE KEY-----hunter2-----END PRIVATE KEY-----",
            "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyhunter2x.abc",
            "password = hunter2, token = hunter2; secret:hunter2",
        ] {
            let clean = text(line);
            assert!(!clean.contains("hunter2") && clean.contains(LEFT_OUT), "{line} -> {clean}");
            assert_eq!(text(&clean), clean, "scrubbed twice is scrubbed once");
        }
    }

    #[test]
    fn a_key_goes_over_many_lines() {
        let key = "before\n  -----BEGIN EC PRIVATE KEY-----\nhunter2\nhunter2\n-----END EC PRIVATE \
                   KEY-----\nafter";
        assert_eq!(text(key), "before\n  ***\n***\n***\n***\nafter");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "transition 7 started at seal: primary lost: arezzo silent 3.0 s",
            "{\"level\":\"WARN\",\"fields\":{\"message\":\"voter 2 is silent\"}}",
            "password authentication failed for user \"app\"",
            "https://localhost/x?y=1",
            "port=5432 is taken",
            "hostssl all all 10.0.0.0/8 scram-sha-256",
            "eyJ is no token",
            "",
        ] {
            assert_eq!(text(line), line);
        }
    }
}

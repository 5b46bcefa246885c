//! Configuration: a TOML file below environment variables; every error names the place.
//!
//! The file is first read alone, because only the TOML reader knows lines and columns; only when
//! the environment has something to say is it read again in layers. A wrong value is thus always
//! reported where it was written, in the file or in the variable.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub mod duration;

/// `PREFIX_LOG` and `PREFIX_CONFIG` belong to programs, not to their files.
const RESERVED: [&str; 2] = ["log", "config"];

/// What is wrong with a configuration: one line with file, line, key and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1, where they are known.
    pub place: Option<(u32, u32)>,
    /// The environment variable at fault, when it is not the file.
    pub variable: Option<Box<str>>,
    /// Dotted path of the key; may be empty.
    pub key: Box<str>,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: Box<str>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, self.place) {
            (Some(variable), _) => {
                write!(f, "environment variable {variable} (over {})", self.file.display())?;
            }
            (None, Some((line, column))) => {
                write!(f, "{}:{line}:{column}", self.file.display())?;
            }
            (None, None) => write!(f, "{}", self.file.display())?,
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl ConfigError {
    /// An error of meaning in `file` as a whole.
    pub fn new(file: &Path, key: impl Into<Box<str>>, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            variable: None,
            key: key.into(),
            message: message.into(),
            remedy: Box::default(),
        }
    }

    /// An error of meaning at a byte range of the file's text (from `toml::Spanned`).
    pub fn at(file: &Path, text: &str, span: Range<usize>, key: &str, message: &str) -> Self {
        Self { place: Some(place(text, span.start)), ..Self::new(file, key, message) }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<Box<str>>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// Reads the TOML file `path`, then environment variables above it: `PREFIX_SECTION__KEY` is the
/// key `section.key`, its value TOML or plain text. `T` should `deny_unknown_fields`, or spelling
/// mistakes pass unseen. `PREFIX_LOG` and `PREFIX_CONFIG` are left to the program; an empty prefix
/// means no environment.
///
/// # Errors
/// [`ConfigError`]: the file cannot be read, is not TOML, or does not say what `T` needs.
pub fn load<T: DeserializeOwned>(path: &Path, env_prefix: &str) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(path, "", format!("cannot be read: {error}"))
            .with_remedy("name the file that `baton init` wrote for this daemon")
    })?;
    layered(path, &text, env_prefix, std::env::vars_os())
}

/// Reads a text that came from `path`, without the environment.
///
/// # Errors
/// [`ConfigError`]
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let whole = |error: &toml::de::Error| explain(path, text, error, "");
    let reader = toml::Deserializer::parse(text).map_err(|error| whole(&error))?;
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let key = clean(&error.path().to_string());
        explain(path, text, error.inner(), &key)
    })
}

/// `path` as seen from the folder of the configuration file `file`.
pub fn beside(file: &Path, path: &Path) -> PathBuf {
    crate::files::folder_of(file).join(path)
}

/// One variable of the environment that stands above the file.
struct Override {
    variable: String,
    key: String,
    value: String,
}

fn layered<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    prefix: &str,
    environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<T, ConfigError> {
    let alone = parse(path, text);
    let overrides = overrides(prefix, environment);
    if overrides.is_empty() {
        return alone.map_err(|error| name_variable(error, prefix));
    }
    let in_file = |message: String| ConfigError::new(path, "", message);
    let file = config::File::from_str(text, config::FileFormat::Toml);
    let mut layers = config::Config::builder().add_source(file);
    for above in &overrides {
        layers = layers.set_override(&above.key, value_of(&above.value)).map_err(|error| {
            let variable = Some(above.variable.as_str().into());
            ConfigError {
                variable,
                ..ConfigError::new(path, above.key.as_str(), error.to_string())
            }
        })?;
    }
    let layers = match layers.build() {
        Ok(layers) => layers,
        // Not TOML: the reader of the file alone says it better.
        Err(error) => return alone.and(Err(in_file(error.to_string()))),
    };
    serde_path_to_error::deserialize(layers).map_err(|error| {
        let key = clean(&error.path().to_string());
        let message = innermost(error.inner());
        let key = precise(&key, &message);
        let guilty = overrides.iter().find(|above| {
            let key = key.replace('[', ".[");
            above.key == key || key.starts_with(&format!("{}.", above.key))
        });
        match (guilty, alone) {
            (Some(above), _) => {
                let variable = Some(above.variable.as_str().into());
                ConfigError { variable, ..ConfigError::new(path, key, message) }
                    .with_remedy("correct or unset the variable")
            }
            (None, Err(error)) => name_variable(error, prefix),
            (None, Ok(_)) => ConfigError::new(path, key, message),
        }
    })
}

fn overrides(
    prefix: &str,
    environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<Override> {
    if prefix.is_empty() {
        return Vec::new();
    }
    let start = format!("{prefix}_");
    environment
        .filter_map(|(name, value)| {
            let variable = name.into_string().ok()?;
            let key = variable.strip_prefix(&start)?.to_ascii_lowercase().replace("__", ".");
            let value = value.to_string_lossy().into_owned();
            let counts = !key.is_empty() && !RESERVED.contains(&key.as_str());
            counts.then_some(Override { variable, key, value })
        })
        .collect()
}

/// The text as a value of TOML where it is one, else as it stands.
fn value_of(text: &str) -> config::Value {
    let table = toml::from_str::<toml::Table>(&format!("value = {text}"));
    let value = match table {
        Ok(mut table) if table.len() == 1 => table.remove("value"),
        _ => None,
    };
    value.and_then(convert).unwrap_or_else(|| text.into())
}

/// `None` for dates, which no key of ours takes.
fn convert(value: toml::Value) -> Option<config::Value> {
    Some(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Array(items) => {
            items.into_iter().map(convert).collect::<Option<Vec<_>>>()?.into()
        }
        toml::Value::Table(items) => items
            .into_iter()
            .map(|(key, value)| Some((key, convert(value)?)))
            .collect::<Option<config::Map<_, _>>>()?
            .into(),
        toml::Value::Datetime(_) => return None,
    })
}

fn explain(path: &Path, text: &str, error: &toml::de::Error, key: &str) -> ConfigError {
    let message = error.message().trim().replace('\n', "; ");
    let key = precise(key, &message);
    let remedy = if message.starts_with("missing field") {
        "add it there"
    } else if message.starts_with("unknown field") {
        "remove the line or correct the spelling"
    } else {
        "correct this line"
    };
    let place = error.span().map(|span| place(text, span.start));
    ConfigError { place, ..ConfigError::new(path, key, message) }.with_remedy(remedy)
}

/// Says in the remedy which variable would have done.
fn name_variable(mut error: ConfigError, prefix: &str) -> ConfigError {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    let nameable = !error.key.is_empty() && error.key.bytes().all(plain);
    if nameable && !prefix.is_empty() && !error.message.starts_with("unknown field") {
        let variable = error.key.to_ascii_uppercase().replace('.', "__");
        error.remedy = format!("{}, or set {prefix}_{variable}", error.remedy).into();
    }
    error
}

/// The path of a missing or unknown field ends at its table: adds the field that the message names.
fn precise(path: &str, message: &str) -> String {
    let named = ["missing field `", "missing configuration field `", "unknown field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split_once('`'))
        .and_then(|(field, _)| field.rsplit('.').next());
    match named {
        None => path.to_owned(),
        Some(field) if path.is_empty() => field.to_owned(),
        Some(field) if path == field || path.ends_with(&format!(".{field}")) => path.to_owned(),
        Some(field) => format!("{path}.{field}"),
    }
}

/// Paths show a whole document as `.` and what `toml::Spanned` hides its value in.
fn clean(path: &str) -> String {
    let path = path.replace(".$__serde_spanned_private_value", "");
    if path == "." { String::new() } else { path }
}

fn innermost(error: &config::ConfigError) -> String {
    if let config::ConfigError::At { error, .. } = error {
        return innermost(error);
    }
    error.to_string()
}

/// Line and column, from 1, of a byte of the text.
fn place(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let from_one = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    let lines = before.bytes().filter(|b| *b == b'\n').count();
    (from_one(lines), from_one(before.get(line_start..).unwrap_or_default().chars().count()))
}

#[cfg(test)]
mod tests;

//! Where each key of a file stands, so that an error of meaning can name its line.
//!
//! Elements of a list of tables are named by their `name`, so that `service.clinic.required` is
//! found whichever number the service has.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Byte ranges by dotted path; several where a name is there more than once.
pub(super) struct Places(BTreeMap<String, Vec<Range<usize>>>);

impl Places {
    /// All keys of a text; none when it is not TOML.
    pub(super) fn of(text: &str) -> Self {
        let mut places = Self(BTreeMap::new());
        if let Ok(table) = DeTable::parse(text) {
            places.table("", table.get_ref());
        }
        places
    }

    /// Where a key stands: the last place of that name with `again`, else the first. The place of
    /// the nearest enclosing table when the key itself is not in the file; the beginning, at last.
    pub(super) fn find(&self, path: &str, again: bool) -> Range<usize> {
        let mut rest = singular(path);
        loop {
            if let Some(spans) = self.0.get(&rest) {
                let span = if again { spans.last() } else { spans.first() };
                return span.cloned().unwrap_or(0..0);
            }
            match rest.rsplit_once('.') {
                Some((table, _)) => rest = table.to_owned(),
                None => return 0..0,
            }
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(prefix, key.get_ref());
            let nested = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
            self.note(&path, if nested { key.span() } else { value.span() });
            self.value(&path, value.get_ref());
        }
    }

    fn value(&mut self, path: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(elements) => {
                for (number, element) in elements.iter().enumerate() {
                    self.element(path, number, element.span(), element.get_ref());
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    fn element(&mut self, list: &str, number: usize, span: Range<usize>, value: &DeValue<'_>) {
        let name = value.get("name").filter(|name| name.get_ref().is_str());
        let (word, span) = match name {
            Some(name) => (name.get_ref().as_str().unwrap_or_default().to_owned(), name.span()),
            None => (number.to_string(), span),
        };
        let path = join(list, &word);
        self.note(&path, span);
        self.value(&path, value);
    }

    fn note(&mut self, path: &str, span: Range<usize>) {
        self.0.entry(path.to_owned()).or_default().push(span);
    }
}

fn join(prefix: &str, word: &str) -> String {
    if prefix.is_empty() { word.to_owned() } else { format!("{prefix}.{word}") }
}

/// The replicated state says `services` where the file says `service`.
fn singular(path: &str) -> String {
    let word = |word: &str| {
        match word {
            "services" => "service",
            "sites" => "site",
            "instances" => "instance",
            other => other,
        }
        .to_owned()
    };
    path.split('.').map(word).collect::<Vec<_>>().join(".")
}

//! Who may connect. Every instance is born fenced (I-13): `pg_hba.conf` is written closed before
//! every start, and opened only once the instance has proven what it is.

use crate::layout::Layout;
use crate::settings::{INSTANCES, SUPERUSER};
use std::io;

const OPEN: &str = "# baton: admits clients";
const CLOSED: &str = "# baton: closed";

/// Always there: the agent itself over its own socket, and the other instances for replication
/// and for `pg_rewind`, each by its own certificate (I-09). Nobody becomes an instance's role any
/// other way.
fn inside() -> String {
    format!(
        "local all {SUPERUSER} peer map=baton\n\
         local all all reject\n\
         hostssl replication +{INSTANCES} all cert\n\
         hostssl postgres +{INSTANCES} all cert\n\
         host all,replication +{INSTANCES} all reject\n"
    )
}

/// Shuts clients out. Those that are connected stay.
///
/// # Errors
/// Those of the file system.
pub fn close(layout: &Layout) -> io::Result<()> {
    write(layout, &format!("{CLOSED}\n{}", inside()))
}

/// Lets clients in by the declared lines; without any, by password over TLS.
///
/// # Errors
/// Those of the file system.
pub fn open(layout: &Layout, client_access: &[String]) -> io::Result<()> {
    let clients = if client_access.is_empty() {
        "hostssl all all all scram-sha-256".to_owned()
    } else {
        client_access.join("\n")
    };
    let probe = "hostssl postgres baton_probe all cert";
    write(layout, &format!("{OPEN}\n{}{probe}\n{clients}\n", inside()))
}

/// Whether the file lets clients in.
pub fn is_open(layout: &Layout) -> bool {
    std::fs::read_to_string(layout.hba()).is_ok_and(|text| text.starts_with(OPEN))
}

fn write(layout: &Layout, text: &str) -> io::Result<()> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(|| SUPERUSER.to_owned(), |user| user.name);
    let ident = format!("baton \"{user}\" {SUPERUSER}\n");
    if std::fs::read_to_string(layout.ident()).ok().as_deref() != Some(ident.as_str()) {
        crate::layout::replace(&layout.ident(), ident.as_bytes())?;
    }
    if std::fs::read_to_string(layout.hba()).ok().as_deref() == Some(text) {
        return Ok(());
    }
    crate::layout::replace(&layout.hba(), text.as_bytes())
}

//! Opening ports, and saying who holds one that is taken.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tokio::net::{TcpListener, UdpSocket};

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What is wrong, by whom, and what to do.
    pub reason: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Listens for TCP connections.
///
/// # Errors
/// [`BindError`], which names the process that holds the port where `/proc` shows it.
pub async fn tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| explain(Transport::Tcp, address, source))
}

/// Opens a UDP socket.
///
/// # Errors
/// As [`tcp`].
pub async fn udp(address: SocketAddr) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(address).await.map_err(|source| explain(Transport::Udp, address, source))
}

#[derive(Clone, Copy)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// The kernel's tables, and the state in which a socket of theirs holds its port.
    const fn tables(self) -> ([&'static str; 2], &'static str) {
        match self {
            Self::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
            Self::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
        }
    }
}

fn explain(transport: Transport, address: SocketAddr, source: io::Error) -> BindError {
    let kind = source.kind();
    let reason = if kind == io::ErrorKind::AddrInUse {
        let by = holder(transport, address).map_or_else(String::new, |who| format!(" by {who}"));
        format!("in use{by}; stop the process that holds it or choose another port")
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "this machine does not have that address; correct the configuration".into()
    } else if kind == io::ErrorKind::PermissionDenied {
        "not permitted; ports below 1024 need the capability CAP_NET_BIND_SERVICE".into()
    } else {
        source.to_string()
    };
    BindError { address, reason, source }
}

/// Who holds `address`: `postgres (pid 812)`, or the user where the process is not ours to see.
fn holder(transport: Transport, address: SocketAddr) -> Option<String> {
    let (tables, state) = transport.tables();
    let socket = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| table.lines().find_map(|line| holding(line, state, address)))?;
    Some(match process_with(&socket.inode) {
        Some((pid, name)) => format!("{name} (pid {pid})"),
        None => format!("a process of the user with uid {}", socket.uid),
    })
}

struct Socket {
    inode: String,
    uid: String,
}

/// Reads one line of a kernel table; `None` unless its socket stands in the way of `address`.
fn holding(line: &str, state: &str, address: SocketAddr) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let taken = parse_ip(ip)?;
    let collides = taken == address.ip() || taken.is_unspecified() || address.ip().is_unspecified();
    let ours = fields.get(3) == Some(&state)
        && u16::from_str_radix(port, 16) == Ok(address.port())
        && collides;
    ours.then_some(Socket {
        uid: (*fields.get(7)?).to_owned(),
        inode: (*fields.get(9)?).to_owned(),
    })
}

/// The kernel prints addresses as 32-bit words in the machine's own byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    if hex.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let mut octets = [0_u8; 16];
    for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(at)?);
    }
    Some(Ipv6Addr::from(octets).to_canonical())
}

fn process_with(inode: &str) -> Option<(String, String)> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().into_string().ok()?;
        if !pid.bytes().all(|b| b.is_ascii_digit()) || !has_open(&process.path(), &wanted) {
            return None;
        }
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some((pid, name.trim().to_owned()))
    })
}

fn has_open(process: &Path, wanted: &str) -> bool {
    fs::read_dir(process.join("fd")).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_its_holder() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = tcp(any).await.expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = tcp(address).await.expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");

        let first = udp(any).await.expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = udp(address).await.expect_err("taken").to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    }

    #[tokio::test]
    async fn a_foreign_address_is_explained() {
        let error = tcp(SocketAddr::from(([192, 0, 2, 1], 0))).await.expect_err("not ours");
        assert!(error.to_string().contains("does not have that address"), "{error}");
    }

    #[test]
    fn the_kernels_addresses_are_read() {
        let native = format!("{:08X}", u32::from_ne_bytes([127, 0, 1, 1]));
        assert_eq!(parse_ip(&native), Some(IpAddr::from([127, 0, 1, 1])));
        assert_eq!(parse_ip(&"0".repeat(32)), Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        assert_eq!(parse_ip("x"), None);
    }
}

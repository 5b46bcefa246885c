//! The client's half of checking roles, and TLS errors in words.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::role::{Kind, Peer};

/// Accepts a server when the authority vouches for the address and the URI is of the expected
/// kind and cluster, and of the expected name where one is. Everything but the URI is left to the
/// library's own verifier.
#[derive(Debug)]
pub(crate) struct KindVerifier {
    authority: Arc<WebPkiServerVerifier>,
    expected: Kind,
    cluster: String,
    name: Option<String>,
}

impl KindVerifier {
    pub(crate) fn new(
        authority: Arc<WebPkiServerVerifier>,
        expected: Kind,
        cluster: String,
        name: Option<String>,
    ) -> Self {
        Self { authority, expected, cluster, name }
    }
}

/// The server is of our authority, but not whom we meant to reach.
#[derive(Debug)]
struct WrongPeer {
    expected: Kind,
    cluster: String,
    name: Option<String>,
    found: Option<Peer>,
}

impl fmt::Display for WrongPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "expected {} `{name}`", self.expected)?,
            None => write!(f, "expected a server of kind {}", self.expected)?,
        }
        write!(f, " in cluster {}, ", self.cluster)?;
        match &self.found {
            Some(peer) => write!(f, "found {peer}"),
            None => write!(f, "found a certificate without a role"),
        }
    }
}

impl Error for WrongPeer {}

impl ServerCertVerifier for KindVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let found = Peer::of_certificate(end_entity);
        match &found {
            Some(peer)
                if peer.kind == self.expected
                    && peer.cluster == self.cluster
                    && self.name.as_ref().is_none_or(|name| *name == peer.name) =>
            {
                Ok(verified)
            }
            _ => {
                let (expected, cluster) = (self.expected, self.cluster.clone());
                let name = self.name.clone();
                let wrong = OtherError(Arc::new(WrongPeer { expected, cluster, name, found }));
                Err(CertificateError::Other(wrong).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}

/// The TLS error at the bottom of a chain of errors, if there is one. `io::Error` hides what it
/// carries from `source()`, so every link is opened.
pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = carried.and_then(|inner| find(inner)) {
            return Some(tls);
        }
        link = error.source();
    }
    None
}

/// One sentence for people.
pub(crate) fn explain(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return error.to_string();
    };
    if let CertificateError::Other(OtherError(wrong)) = reason {
        return wrong.to_string();
    }
    // A new authority of the same name has another key: then it is the signature that is wrong.
    if matches!(reason, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
        return "the certificate comes from another authority than ours".into();
    }
    reason.to_string()
}

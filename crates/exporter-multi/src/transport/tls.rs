//! Which servers are trusted, and who we say that we are.

use std::path::PathBuf;
use std::sync::Arc;
use std::{error, fmt};

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The files of a TLS client, all PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Trusted instead of the public roots.
    pub(crate) certificates: Option<PathBuf>,
    /// The client's certificate, with those between it and the root, and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// What is wrong with the files.
#[derive(Debug)]
pub(crate) enum TlsProblem {
    Pem(PathBuf, pem::Error),
    Empty(PathBuf),
    Rustls(rustls::Error),
}

impl From<rustls::Error> for TlsProblem {
    fn from(error: rustls::Error) -> Self {
        Self::Rustls(error)
    }
}

impl Tls {
    /// The configuration of a client.
    pub(crate) fn client(&self) -> Result<ClientConfig, TlsProblem> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let trusting = match &self.certificates {
            None => versions.with_webpki_roots(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate)?;
                }
                versions.with_root_certificates(roots)
            }
        };
        Ok(match &self.client {
            None => trusting.with_no_client_auth(),
            Some((chain, key)) => {
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| TlsProblem::Pem(key.clone(), error))?;
                trusting.with_client_auth_cert(certificates(chain)?, secret)?
            }
        })
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    let all = all.map_err(|error| TlsProblem::Pem(path.clone(), error))?;
    if all.is_empty() { Err(TlsProblem::Empty(path.clone())) } else { Ok(all) }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(path, _) => write!(f, "cannot read `{}` as PEM", path.display()),
            Self::Empty(path) => write!(f, "`{}` holds no certificate", path.display()),
            Self::Rustls(_) => f.write_str("a certificate or key cannot be used"),
        }
    }
}

impl error::Error for TlsProblem {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Pem(_, error) => Some(error),
            Self::Empty(_) => None,
            Self::Rustls(error) => Some(error),
        }
    }
}

//! Writing what was made: private files with mode 0600, nothing ever overwritten.

use std::{fs, path::Path};

use liaison_proto::key_file::write_private;

use crate::{CertsError, authority::Issued, io_error};

/// Writes `tls.pem` and `tls.key` into a directory.
pub(crate) fn write_tls(directory: &Path, issued: &Issued) -> Result<(), CertsError> {
    create_dir(directory)?;
    write_file(&directory.join("tls.pem"), issued.certificate.as_bytes())?;
    private_file(&directory.join("tls.key"), issued.key.as_bytes())
}

pub(crate) fn create_dir(path: &Path) -> Result<(), CertsError> {
    fs::create_dir_all(path).map_err(io_error(path))
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    fs::write(path, bytes).map_err(io_error(path))
}

pub(crate) fn private_file(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    write_private(path, bytes).map_err(io_error(path))
}

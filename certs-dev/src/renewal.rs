//! A country's authority signs the next record of one of its offices.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    key_file::PrivateKey,
    sign::PayloadType,
    wire::{self, directory_record::Record},
};

use crate::{CertsError, files::write_file, io_error};

/// Signs the record in a file of base64, and writes the directory record for `liaison publish`. Returns the office.
///
/// # Errors
/// [`CertsError`].
pub fn sign_office(authority: &Path, request: &Path, output: &Path) -> Result<String, CertsError> {
    let authority = PrivateKey::read_signing(authority)?;
    let text = fs::read_to_string(request).map_err(io_error(request))?;
    let malformed = || CertsError::Request(request.to_path_buf());
    let office = Bytes::from(STANDARD.decode(text.trim()).map_err(|_| malformed())?);
    let named = wire::Office::decode(office.clone()).map_err(|_| malformed())?.office;
    let authority_signature = Some(authority.sign(PayloadType::OfficeRecord, &office));
    let record = Record::Office(wire::OfficeRecord { office, authority_signature });
    let record = wire::DirectoryRecord { record: Some(record) };
    write_file(output, STANDARD.encode(record.encode_to_vec()).as_bytes())?;
    Ok(named)
}

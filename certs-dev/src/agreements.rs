//! The authorities of the countries that an agreement or a table names sign it.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    key_file::PrivateKey,
    policy_text::PolicyText,
    sign::PayloadType,
    wire::{self, directory_record::Record},
};

use crate::{CertsError, files::write_file, io_error};

/// Signs an agreement with the authority keys below `out`.
fn sign(out: &Path, file: &Path) -> Result<wire::DirectoryRecord, CertsError> {
    let policy = Bytes::from(fs::read(file).map_err(io_error(file))?);
    let policy_text = PolicyText::parse(&policy).map_err(|_| CertsError::Request(file.to_path_buf()))?;
    let mut signatures = Vec::new();
    for country in &policy_text.countries {
        let key = PrivateKey::read_signing(&out.join("countries").join(country.as_str()).join("authority.key"))?;
        let signature = Some(key.sign(PayloadType::Policy, &policy));
        signatures.push(wire::CountrySignature { country: country.to_string(), signature });
    }
    let record = Record::Policy(wire::PolicyRecord { name: policy_text.name, policy, signatures });
    Ok(wire::DirectoryRecord { record: Some(record) })
}

/// Signs an agreement, and writes the directory record for `liaison publish`.
///
/// # Errors
/// [`CertsError`].
pub fn sign_one(out: &Path, file: &Path, output: &Path) -> Result<(), CertsError> {
    write_file(output, STANDARD.encode(sign(out, file)?.encode_to_vec()).as_bytes())
}

/// Signs every agreement and table of a directory, in the order of names, and adds them to the records that a broker begins with.
/// Returns how many.
///
/// # Errors
/// [`CertsError`].
pub fn sign_all(out: &Path, policies: &Path) -> Result<usize, CertsError> {
    let listing = fs::read_dir(policies).map_err(io_error(policies))?;
    let mut files: Vec<_> = listing.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cedar" || extension == "toml"));
    files.sort();
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Behind charter and offices, whose names are numbers.
        let path = out.join("records").join(format!("agreement-{name}.record"));
        write_file(&path, &sign(out, file)?.encode_to_vec())?;
    }
    Ok(files.len())
}

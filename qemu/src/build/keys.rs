//! Secure boot keys of the demonstration: platform key, key exchange key and signature database, with the signed updates
//! that enrol them, and those that the firmware must refuse. Made afresh on every machine: nobody else has the keys.
//!
//! An update is what efivarfs takes: four bytes of attributes, then EFI_VARIABLE_AUTHENTICATION_2 (UEFI specification 2.10,
//! section 8.2.2), then the new signature list.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::recipe::{Job, Recipe};

/// Name of the recipe.
pub const NAME: &str = "keys";

/// The recipe.
pub struct Keys;

/// The updates, as they lie in the artifact and in the guest.
pub const UPDATE_FILES: [&str; 6] = ["db", "KEK", "PK", "db-append", "db-rogue", "db-unsigned"];

/// A GUID as it lies in memory.
type Guid = [u8; 16];

/// EFI_GLOBAL_VARIABLE: PK and KEK.
const GLOBAL: Guid = [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// EFI_IMAGE_SECURITY_DATABASE: db.
const IMAGE_SECURITY: Guid = [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// EFI_CERT_X509: the kind of all our signature lists.
const CERT_X509: Guid = [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// EFI_CERT_TYPE_PKCS7: the kind of all our signatures.
const CERT_TYPE_PKCS7: Guid = [0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7];
/// Who put the signatures there: us.
const OWNER: Guid = [0x0a, 0x5c, 0x1e, 0x6f, 0x7d, 0x3b, 0x52, 0x4c, 0x9a, 0x84, 0x2d, 0x1f, 0x0b, 0x97, 0xc6, 0xe5];

/// Non-volatile, boot service, run time, time-based authenticated.
const ATTRIBUTES: u32 = 0x27;
/// The same, and append.
const APPEND: u32 = 0x67;

/// One update of a variable.
struct Update {
    /// File name.
    file: &'static str,
    variable: &'static str,
    vendor: Guid,
    attributes: u32,
    /// Time stamp: this second of 1 January 2026.
    second: u8,
    /// Whose certificate goes in.
    certificate: &'static str,
    /// Whose key signs; none leaves the signature empty.
    signer: Option<&'static str>,
}

const UPDATES: [Update; 6] = [
    Update { file: "db", variable: "db", vendor: IMAGE_SECURITY, attributes: ATTRIBUTES, second: 1, certificate: "db.crt", signer: Some("KEK") },
    Update { file: "KEK", variable: "KEK", vendor: GLOBAL, attributes: ATTRIBUTES, second: 1, certificate: "KEK.crt", signer: Some("PK") },
    Update { file: "PK", variable: "PK", vendor: GLOBAL, attributes: ATTRIBUTES, second: 1, certificate: "PK.crt", signer: Some("PK") },
    Update { file: "db-append", variable: "db", vendor: IMAGE_SECURITY, attributes: APPEND, second: 2, certificate: "db-second.crt", signer: Some("KEK") },
    Update { file: "db-rogue", variable: "db", vendor: IMAGE_SECURITY, attributes: ATTRIBUTES, second: 3, certificate: "rogue.crt", signer: Some("rogue") },
    Update { file: "db-unsigned", variable: "db", vendor: IMAGE_SECURITY, attributes: ATTRIBUTES, second: 3, certificate: "rogue.crt", signer: None },
];

impl Recipe for Keys {
    fn name(&self) -> String {
        NAME.into()
    }

    fn summary(&self) -> String {
        "secure boot keys of the demonstration".into()
    }

    fn text(&self) -> &'static str {
        include_str!("keys.rs")
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["db", "KEK", "PK", "db-append", "db-rogue", "db-unsigned", "db.key", "db.crt", "rogue.key", "rogue.crt"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let out = job.out();
        for name in ["PK", "KEK", "db", "db-second", "rogue"] {
            job.run(
                "making keys",
                Command::new("openssl")
                    .args(["req", "-x509", "-newkey", "rsa:2048", "-sha256", "-nodes", "-days", "7300"])
                    .args(["-subj", &format!("/CN=Bulkhead demonstration {name}")])
                    .arg("-keyout")
                    .arg(out.join(format!("{name}.key")))
                    .arg("-out")
                    .arg(out.join(format!("{name}.crt"))),
            )?;
        }
        for update in &UPDATES {
            let list = signature_list(&der(job, &out.join(update.certificate))?);
            let time = time_stamp(update.second);
            let signature = match update.signer {
                Some(signer) => sign(job, signer, &signed_bytes(update, &time, &list))?,
                None => Vec::new(),
            };
            let path = out.join(update.file);
            fs::write(&path, authenticated(update.attributes, &time, &signature, &list)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// A certificate's binary form.
fn der(job: &Job<'_>, certificate: &Path) -> Result<Vec<u8>> {
    let binary = job.work().join("certificate.der");
    job.run("making keys", Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(certificate).arg("-out").arg(&binary))?;
    fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))
}

/// A detached PKCS #7 signature over `bytes`, without signed attributes, as the firmware wants it.
fn sign(job: &Job<'_>, signer: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let (content, signature): (PathBuf, PathBuf) = (job.work().join("content"), job.work().join("signature"));
    fs::write(&content, bytes).with_context(|| format!("cannot write {}", content.display()))?;
    job.run(
        "signing",
        Command::new("openssl")
            .args(["smime", "-sign", "-binary", "-noattr", "-md", "sha256", "-outform", "DER", "-signer"])
            .arg(job.out().join(format!("{signer}.crt")))
            .arg("-inkey")
            .arg(job.out().join(format!("{signer}.key")))
            .arg("-in")
            .arg(&content)
            .arg("-out")
            .arg(&signature),
    )?;
    fs::read(&signature).with_context(|| format!("cannot read {}", signature.display()))
}

/// EFI_SIGNATURE_LIST with one certificate.
fn signature_list(der: &[u8]) -> Vec<u8> {
    let entry = 16 + der.len();
    let mut list = CERT_X509.to_vec();
    for word in [28 + entry, 0, entry] {
        list.extend(u32::try_from(word).unwrap_or(u32::MAX).to_le_bytes());
    }
    list.extend(OWNER);
    list.extend(der);
    list
}

/// EFI_TIME with everything zero that an authenticated variable must leave zero.
fn time_stamp(second: u8) -> [u8; 16] {
    let mut time = [0; 16];
    time[..2].copy_from_slice(&2026u16.to_le_bytes());
    (time[2], time[3], time[6]) = (1, 1, second);
    time
}

/// What the signature covers: name, vendor, attributes, time stamp, content.
fn signed_bytes(update: &Update, time: &[u8; 16], list: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = update.variable.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.extend(update.vendor);
    bytes.extend(update.attributes.to_le_bytes());
    bytes.extend(time);
    bytes.extend(list);
    bytes
}

/// Attributes, authentication header, content.
fn authenticated(attributes: u32, time: &[u8; 16], signature: &[u8], list: &[u8]) -> Vec<u8> {
    /// WIN_CERT_TYPE_EFI_GUID.
    const BY_GUID: u16 = 0x0ef1;
    const REVISION: u16 = 0x0200;
    let mut update = attributes.to_le_bytes().to_vec();
    update.extend(time);
    update.extend(u32::try_from(24 + signature.len()).unwrap_or(u32::MAX).to_le_bytes());
    update.extend(REVISION.to_le_bytes());
    update.extend(BY_GUID.to_le_bytes());
    update.extend(CERT_TYPE_PKCS7);
    update.extend(signature);
    update.extend(list);
    update
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_has_header_signature_and_content_in_this_order() {
        let update = authenticated(0x27, &time_stamp(5), b"signature", b"list");
        assert_eq!(update[..4], 0x27u32.to_le_bytes());
        assert_eq!((&update[4..6], update[10]), (2026u16.to_le_bytes().as_slice(), 5), "year and second");
        assert_eq!(update[20..24], (24 + 9u32).to_le_bytes(), "length of header, kind and signature");
        assert_eq!(&update[24..28], [0x00, 0x02, 0xf1, 0x0e]);
        assert!(update.ends_with(b"signaturelist"));
    }

    #[test]
    fn a_list_says_its_own_sizes() {
        let list = signature_list(&[7; 100]);
        let word = |at: usize| u32::from_le_bytes(list[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!((word(16), word(20), word(24)), (list.len(), 0, 116));
    }

    #[test]
    fn the_replayed_update_is_older_than_the_appended_one() {
        let second = |file: &str| UPDATES.iter().find(|u| u.file == file).map(|u| u.second);
        assert!(second("db") < second("db-append") && second("db-append") < second("db-rogue"));
    }
}

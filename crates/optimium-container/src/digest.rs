//! SHA-256 of bytes and files.

use std::io::Read;

use sha2::{Digest as _, Sha256};

use crate::hex;

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// Text of a digest, as `sha256sum` prints it.
pub(crate) fn text(digest: &Digest) -> String {
    hex::encode(digest)
}

/// The digest of `bytes`.
pub(crate) fn of_bytes(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// The digest of everything that `reader` still gives.
pub(crate) fn of_reader(mut reader: impl Read) -> std::io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut block = vec![0; 1 << 18];
    loop {
        match reader.read(&mut block) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&block[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A digest that grows with its bytes.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub(crate) fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text(&of_bytes(b"abc")), expected);
        assert_eq!(of_reader(&b"abc"[..]).unwrap(), of_bytes(b"abc"));
    }
}

//! Opening files of a folder without being led elsewhere.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;

use optimium_tensor::{Error, Result};

/// Whether `name` may be the name of a file in a model folder: `[A-Za-z0-9._-]{1,128}`, without a leading dot.
pub(crate) fn is_file_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

/// A file of `folder`, for reading, and its size.
///
/// # Errors
/// `Container` where the name is not allowed, or there is no regular file of that name in the folder itself.
pub(crate) fn open_file(folder: &Path, name: &str) -> Result<(File, u64)> {
    if !is_file_name(name) {
        return Err(Error::container(format!("{name:?} is not an allowed file name")));
    }
    let path = folder.join(name);
    let regular = || Error::container(format!("{name} is not a regular file"));
    let failed = |cause: std::io::Error| {
        let what = if cause.kind() == std::io::ErrorKind::NotFound { "is missing" } else { "cannot be read" };
        Error::container(format!("{name} {what}")).with_cause(cause)
    };
    // Asked before opening as well, because opening a pipe would wait for its writer.
    if !path.symlink_metadata().map_err(failed)?.is_file() {
        return Err(regular());
    }
    let mut options = OpenOptions::new();
    options.read(true);
    forbid_links(&mut options);
    let file = options.open(&path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(regular());
    }
    Ok((file, metadata.len()))
}

#[cfg(unix)]
fn forbid_links(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
}

#[cfg(not(unix))]
fn forbid_links(_: &mut OpenOptions) {}

/// All bytes of a file of `folder`.
///
/// # Errors
/// As [`open_file`], and `Container` where it holds more than `limit` bytes.
pub(crate) fn read_file(folder: &Path, name: &str, limit: u64) -> Result<Vec<u8>> {
    let (file, size) = open_file(folder, name)?;
    let too_large = || Error::container(format!("{name} is larger than the allowed {limit} bytes"));
    if size > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|cause| Error::container(format!("{name} cannot be read")).with_cause(cause))?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn only_plain_names_are_allowed() {
        let long = "a".repeat(128);
        let longer = "a".repeat(129);
        let cases = [
            ("graph.json", true),
            ("weights-1_b.bin", true),
            (long.as_str(), true),
            (longer.as_str(), false),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("../x", false),
            ("a/b", false),
            ("a/../../x", false),
            ("/etc/passwd", false),
            ("C:\\x", false),
            ("a\\b", false),
            ("a\0b", false),
            ("..%2fx", false),
            ("é", false),
        ];
        each_case(cases, |&(name, allowed)| {
            if is_file_name(name) == allowed { Ok(()) } else { Err(format!("allowed: {}", !allowed)) }
        });
    }
}

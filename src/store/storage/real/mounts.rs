//! The list of mounts, as Linux tells it in `/proc/self/mountinfo`: which kind of file system is a path on?

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The file system's kind at `path`, which is absolute and free of links.
pub(super) fn kind<'a>(mountinfo: &'a [u8], path: &Path) -> Option<&'a [u8]> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(mount)
        .filter(|(point, _)| path.starts_with(OsStr::from_bytes(point)))
        // The deepest one counts, and of two at one place the later, which hides the earlier.
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

/// Whether locks and syncs of this kind of file system depend on another machine.
pub(super) fn is_network(kind: &[u8]) -> bool {
    const KINDS: &str = "nfs nfs4 cifs smb3 smbfs smb ncpfs afs coda 9p ceph lustre glusterfs gpfs orangefs pvfs2 \
        beegfs davfs panfs";
    const FUSE: &str = "sshfs glusterfs ceph ceph-fuse s3fs goofys gcsfuse blobfuse blobfuse2 rclone mount-s3 davfs2 \
        curlftpfs moosefs mfs juicefs seaweedfs gvfsd-fuse kio-fuse smbnetfs hdfs";
    let is_in = |list: &str, kind: &[u8]| list.split(' ').any(|known| known.as_bytes() == kind);
    is_in(KINDS, kind) || kind.strip_prefix(b"fuse.").is_some_and(|kind| is_in(FUSE, kind))
}

/// Mount point and kind of one line: `id parent device root POINT options [fields...] - KIND source options`.
fn mount(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescape(fields.nth(4)?);
    fields.by_ref().find(|field| *field == b"-")?;
    Some((point, fields.next()?))
}

/// Space, tab, line feed and backslash come as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let digits = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => Some((a, b, c)),
            _ => None,
        };
        match digits {
            Some((a, b, c)) => {
                plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = tail.get(3..).unwrap_or_default();
            }
            None => plain.push(*first),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
23 22 0:40 / /srv rw,relatime shared:2 master:1 - nfs4 server:/srv rw\n\
24 23 8:2 / /srv/local rw - xfs /dev/sdb1 rw\n\
25 22 0:41 / /mnt/with\\040space rw - fuse.sshfs me@there:/ rw\n\
26 22 8:3 / /twice rw - ext4 /dev/sdc1 rw\n\
27 26 0:42 / /twice rw - cifs //server/twice rw\n\
broken line\n";

    fn at(path: &str) -> &'static str {
        std::str::from_utf8(kind(MOUNTS, Path::new(path)).unwrap()).unwrap()
    }

    #[test]
    fn the_deepest_mount_names_the_kind() {
        assert_eq!(at("/var/spool"), "ext4");
        assert_eq!(at("/srv/spool"), "nfs4");
        assert_eq!(at("/srv"), "nfs4");
        assert_eq!(at("/srv/local/spool"), "xfs");
        assert_eq!(at("/srvother"), "ext4", "whole names, not letters");
    }

    #[test]
    fn a_later_mount_hides_an_earlier_one() {
        assert_eq!(at("/twice/spool"), "cifs");
    }

    #[test]
    fn mount_points_with_blanks_are_read() {
        assert_eq!(at("/mnt/with space/spool"), "fuse.sshfs");
    }

    #[test]
    fn no_line_no_kind() {
        assert_eq!(kind(b"", Path::new("/")), None);
        assert_eq!(kind(b"1 2 3\n\n- -\n", Path::new("/")), None);
    }

    #[test]
    fn network_kinds_are_told_from_local_ones() {
        for kind in ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "glusterfs", "fuse.sshfs", "fuse.ceph"] {
            assert!(is_network(kind.as_bytes()), "{kind}");
        }
        for kind in ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.lxcfs", "fuseblk", "virtiofs"] {
            assert!(!is_network(kind.as_bytes()), "{kind}");
        }
    }

    quickcheck::quickcheck! {
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) -> bool {
            let _ = kind(&bytes, Path::new("/a/b"));
            unescape(&bytes).len() <= bytes.len()
        }
    }
}

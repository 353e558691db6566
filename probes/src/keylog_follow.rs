//! A key log that its application is still writing: read on when somebody asks, and a descriptor that is
//! readable when there may be more, so that nobody has to ask by the clock.
//!
//! The file may come later, be replaced, or be cut: whatever is at the path is read. What was in it before the
//! beginning belongs to connections that nobody follows, and is passed over.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::keylog::KeyLog;

/// Connections whose secrets are remembered; a failure is told within seconds of its handshake.
const MOST: usize = 65_536;
/// Bytes read at once.
const CHUNK: usize = 1 << 16;
/// As far back as the beginning of a last line may be.
const LINE: u64 = 1_024;

/// Why a key log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It is there and cannot be read.
    #[error("key log {path}: cannot be read: {source}", path = path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is there and no file.
    #[error("key log {path}: not a regular file", path = path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// The folder that it is or will be in cannot be watched.
    #[error("key log {path}: its folder cannot be watched: {source}", path = path.display())]
    Folder {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Errno,
    },
}

/// A key log being followed.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    log: KeyLog,
    open: Option<Open>,
    changes: Inotify,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    read: u64,
}

impl Follower {
    /// Follows what is at `path`, or will be.
    ///
    /// # Errors
    /// [`FollowError`]. That there is no file is none.
    pub fn start(path: &Path) -> Result<Self, FollowError> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let watch = || {
            let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let come = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            changes.add_watch(folder, come | AddWatchFlags::IN_MODIFY)?;
            Ok(changes)
        };
        let mut follower = Self {
            path: path.into(),
            log: KeyLog::new(MOST),
            open: None,
            changes: watch().map_err(|source| FollowError::Folder {
                path: path.into(),
                source,
            })?,
        };
        follower
            .begin()
            .map_err(|source| FollowError::Read {
                path: path.into(),
                source,
            })?
            .then_some(follower)
            .ok_or_else(|| FollowError::NotAFile { path: path.into() })
    }

    /// What it said so far.
    #[must_use]
    pub fn log(&self) -> &KeyLog {
        &self.log
    }

    /// Reads what was written since. A file that is not there has nothing to say.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn update(&mut self) -> io::Result<()> {
        self.forget_changes();
        // The rest of what is open, before what has taken its place.
        self.read_on()?;
        let Some(found) = self.found()? else {
            return Ok(());
        };
        if !found.is_file() {
            // Opening a pipe would wait for its other end.
            return Ok(());
        }
        let same = self.open.as_ref().is_some_and(|open| {
            open.identity == (found.dev(), found.ino()) && open.read <= found.len()
        });
        if same {
            return Ok(());
        }
        self.log.interrupt();
        self.open(0)?;
        self.read_on()
    }

    /// Opens what is there at its last line; `false`: it is no file.
    fn begin(&mut self) -> io::Result<bool> {
        let Some(found) = self.found()? else {
            return Ok(true);
        };
        if !found.is_file() {
            return Ok(false);
        }
        let mut file = File::open(&self.path)?;
        let from = found.len().saturating_sub(LINE);
        file.seek(SeekFrom::Start(from))?;
        let mut last = Vec::new();
        file.take(LINE).read_to_end(&mut last)?;
        let line = last.iter().rposition(|byte| *byte == b'\n');
        self.open(from + line.map_or(0, |at| at as u64 + 1))?;
        Ok(true)
    }

    fn found(&self) -> io::Result<Option<Metadata>> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&mut self, at: u64) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let found = file.metadata()?;
        file.seek(SeekFrom::Start(at))?;
        // Behind a link the file may be in another folder. Where it cannot be watched it is still read.
        let _ = self.changes.add_watch(&self.path, AddWatchFlags::IN_MODIFY);
        self.open = Some(Open {
            file,
            identity: (found.dev(), found.ino()),
            read: at,
        });
        Ok(())
    }

    fn read_on(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let mut chunk = vec![0; CHUNK];
        loop {
            match open.file.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    open.read += count as u64;
                    self.log.add(&chunk[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What changed does not matter, only that something did.
    fn forget_changes(&self) {
        while self
            .changes
            .read_events()
            .is_ok_and(|events| !events.is_empty())
        {}
    }
}

impl AsFd for Follower {
    /// Readable when something was written since [`Follower::update`], here or near it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::keylog::Label;

    fn line(random: u8) -> String {
        let random = format!("{random:02x}").repeat(32);
        format!("SERVER_TRAFFIC_SECRET_0 {random} {}\n", "5a".repeat(32))
    }

    fn knows(follower: &Follower, random: u8) -> bool {
        let secrets = follower.log().secrets(&[random; 32]);
        secrets.is_some_and(|secrets| secrets.secret(Label::ServerTraffic).is_some())
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .expect("a file");
        file.write_all(text.as_bytes()).expect("room");
    }

    fn changed(follower: &Follower) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut waiting = [PollFd::new(follower.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::ZERO).expect("a descriptor") > 0
    }

    #[test]
    fn a_file_is_read_from_its_last_line_on_as_it_grows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.log");
        let second = line(2);
        let (begun, rest) = second.split_at(30);
        append(&path, &(line(1) + begun));
        let mut follower = Follower::start(&path).expect("it is there");
        follower.update().expect("it can be read");
        assert!(!knows(&follower, 1), "before the beginning");
        assert!(!changed(&follower));
        append(&path, rest);
        assert!(changed(&follower));
        follower.update().expect("it can be read");
        assert!(knows(&follower, 2));
        assert_eq!(follower.log().malformed(), 0);
        assert!(!changed(&follower), "all of it was read");
    }

    #[test]
    fn a_file_that_comes_later_is_replaced_and_cut_is_read_all_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.log");
        let mut follower = Follower::start(&path).expect("it may come later");
        follower.update().expect("nothing to read");
        append(&path, &line(1));
        assert!(changed(&follower));
        follower.update().expect("it can be read");
        assert!(knows(&follower, 1));

        // Its last words, and its successor.
        append(&path, &line(2));
        fs::rename(&path, folder.path().join("keys.old")).expect("a rename");
        append(&path, &line(3));
        follower.update().expect("it can be read");
        assert!(knows(&follower, 2) && knows(&follower, 3));

        File::create(&path).expect("cut");
        follower.update().expect("it can be read");
        append(&path, &line(4));
        follower.update().expect("it can be read");
        assert!(knows(&follower, 4));
        assert_eq!(follower.log().malformed(), 0);
    }

    #[test]
    fn a_file_behind_a_link_into_another_folder_is_watched() {
        let (folder, other) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let (link, path) = (folder.path().join("link"), other.path().join("keys.log"));
        append(&path, &line(1));
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let mut follower = Follower::start(&link).expect("it is there");
        append(&path, &line(2));
        assert!(changed(&follower));
        follower.update().expect("it can be read");
        assert!(knows(&follower, 2));
    }

    #[test]
    fn what_can_never_be_followed_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Follower::start(folder.path()).expect_err("a folder");
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
        let nowhere = folder.path().join("no/keys.log");
        let error = Follower::start(&nowhere).expect_err("no folder");
        assert!(
            error.to_string().contains("its folder cannot be watched"),
            "{error}"
        );
    }
}

//! Keeps QEMU's main loop turning.
//!
//! The main loop sleeps until the next of the machine's timers is due, and a core that sets an earlier one wakes it. On the
//! virtual machines of build farms such a wake-up was seen to get lost, about once in ten minutes under load: with all cores waiting for
//! timers that nobody serves, the machine stood still for minutes, until the old time came or something spoke to QEMU. So
//! something speaks to QEMU: an empty line on a monitor of its own, twice a second.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(500);

/// The monitor's socket, in the directory of a machine's sockets.
fn socket(sockets: &Path) -> PathBuf {
    sockets.join("pulse")
}

/// Gives `command` the monitor.
pub fn add_monitor(command: &mut Command, sockets: &Path) {
    let mut chardev = OsString::from("socket,id=pulse,server=on,wait=off,path=");
    chardev.push(socket(sockets));
    command.arg("-chardev").arg(chardev).args(["-mon", "chardev=pulse,mode=readline"]);
}

/// Speaks to the monitor until QEMU has ended or this is dropped.
pub struct Pulse(Arc<AtomicBool>);

impl Pulse {
    /// Begins as soon as QEMU listens.
    pub fn start(sockets: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (socket(sockets), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut stream = None;
            while !stopped.load(Ordering::SeqCst) {
                match &mut stream {
                    None => stream = connect(&path),
                    Some(stream) => {
                        if beat(stream).is_err() {
                            return;
                        }
                    }
                }
                std::thread::sleep(PERIOD);
            }
        });
        Self(stop)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn connect(path: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(path).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// One empty line; what the monitor answered to earlier ones is thrown away.
fn beat(stream: &mut UnixStream) -> std::io::Result<()> {
    stream.write_all(b"\n")?;
    let mut answer = [0; 1024];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn it_beats_as_soon_as_somebody_listens_and_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let pulse = Pulse::start(dir.path());
        let (mut monitor, _) = UnixListener::bind(socket(dir.path())).unwrap().accept().unwrap();
        monitor.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut lines = [0; 2];
        monitor.read_exact(&mut lines).unwrap();
        assert_eq!(&lines, b"\n\n");
        drop(pulse);
        // The stream is closed after it: its end is read, not a time-out.
        let mut rest = Vec::new();
        monitor.read_to_end(&mut rest).unwrap();
        assert!(rest.len() <= 1, "{rest:?}");
    }
}

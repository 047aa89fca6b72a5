//! QEMU's machine protocol: one JSON document per line, over a socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::place::Lab;
use crate::run;

/// The emulator.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

const CONNECT_TRIES: u32 = 100;
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// More than any disk takes: the guest stands still while it is written.
const MIGRATION_BYTES_A_SECOND: u64 = 10 << 30;

/// A connection to one running guest.
pub(crate) struct Qmp {
    stream: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Qmp {
    /// Waits for the socket to be there, and greets.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        for _ in 0..CONNECT_TRIES {
            if let Ok(stream) = UnixStream::connect(socket) {
                let replies = BufReader::new(stream.try_clone()?);
                let mut qmp = Self { stream, replies };
                qmp.read_line()?;
                qmp.execute("qmp_capabilities", json!({}))?;
                return Ok(qmp);
            }
            sleep(CONNECT_PAUSE);
        }
        bail!("QEMU did not open {}", socket.display())
    }

    fn read_line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).with_context(|| format!("not QMP: {line}"))
    }

    /// One command to its answer; events on the way are dropped. An error too once the guest has powered off.
    pub(crate) fn execute(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let message = json!({ "execute": name, "arguments": arguments });
        writeln!(self.stream, "{message}")?;
        loop {
            let mut reply = self.read_line()?;
            if let Some(error) = reply.get("error") {
                bail!("{name}: {error}");
            }
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn dump_formats(&mut self) -> Result<Vec<String>> {
        let answer = self.execute("query-dump-guest-memory-capability", json!({}))?;
        let formats = answer.get("formats").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(formats.iter().filter_map(Value::as_str).map(String::from).collect())
    }

    /// Writes the guest's physical memory to a file.
    pub(crate) fn dump(&mut self, path: &Path, format: &str) -> Result<()> {
        let protocol = format!("file:{}", path.display());
        let arguments = json!({ "paging": false, "protocol": protocol, "format": format });
        self.execute("dump-guest-memory", arguments)?;
        Ok(())
    }

    /// Writes the machine's whole state to a file, as for another QEMU to go on with.
    pub(crate) fn migrate(&mut self, path: &Path) -> Result<()> {
        self.execute("migrate-set-parameters", json!({ "max-bandwidth": MIGRATION_BYTES_A_SECOND }))?;
        let shown = path.to_str().filter(|path| !path.contains('\''));
        let shown = shown.with_context(|| format!("{}: not a path for a shell", path.display()))?;
        self.execute("migrate", json!({ "uri": format!("exec:cat >'{shown}'") }))?;
        loop {
            let state = self.execute("query-migrate", json!({}))?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("migrate: {state}"),
                _ => sleep(CONNECT_PAUSE),
            }
        }
    }

    /// Is QEMU still there?
    pub(crate) fn is_alive(&mut self) -> bool {
        self.execute("query-status", json!({})).is_ok()
    }
}

/// The formats that this machine's QEMU can dump in: it depends on its version and on how it was built.
pub(crate) fn known_formats(lab: &Lab) -> Result<Vec<String>> {
    let scratch = lab.scratch("probe")?;
    let socket = scratch.join("qmp");
    let listen = format!("unix:{},server,nowait", socket.display());
    let mut qemu = run::command(QEMU, ["-machine", "none", "-display", "none", "-qmp", &listen]);
    let mut child = qemu.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot run QEMU")?;
    let formats = Qmp::connect(&socket).and_then(|mut qmp| qmp.dump_formats());
    child.kill()?;
    child.wait()?;
    std::fs::remove_dir_all(&scratch)?;
    formats
}

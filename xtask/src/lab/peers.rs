//! crash and drgn, as the lab's unstable suite has them: run inside its root directory.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::guest::TOOLS_SUITE;
use super::place::Lab;
use crate::run;

/// Where the lab's directory appears inside the peers' root directory.
const INSIDE: &str = "/lab";

/// The peers, with their versions.
pub(crate) struct Peers {
    root: PathBuf,
    pub(crate) crash: String,
    pub(crate) drgn: String,
}

impl Peers {
    /// Says so and gives `None` where they are not installed.
    pub(crate) fn find(lab: &Lab) -> Option<Self> {
        let root = lab.chroot(TOOLS_SUITE);
        let version = |program: &str| -> Result<String> {
            let text = run::output(run::command("chroot", [&root]).args([program, "--version"]))?;
            let line = text.lines().find(|line| !line.is_empty()).unwrap_or(program);
            Ok(line.split(" (").next().unwrap_or(line).to_string())
        };
        match (version("crash"), version("drgn")) {
            (Ok(crash), Ok(drgn)) => Some(Self { root, crash, drgn }),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("SKIPPED: crash and drgn: {error:#}");
                None
            }
        }
    }

    /// A path relative to the lab's directory, as it is inside.
    pub(crate) fn inside(path: &str) -> String {
        format!("{INSIDE}/{path}")
    }

    /// A command inside, where the lab is mounted for as long as it runs.
    pub(crate) fn command(&self, lab: &Lab, program: &str, args: &[String]) -> Command {
        let script = "mkdir -p \"$1$2\" && mount --bind \"$0\" \"$1$2\" && mount -t proc proc \"$1/proc\" && \
                      root=$1 && shift 2 && exec chroot \"$root\" \"$@\"";
        let mut command = run::command("unshare", ["--mount", "sh", "-c", script]);
        command.arg(lab.dir()).arg(&self.root).args([INSIDE, program]).args(args);
        command
    }

    /// crash on a dump: `script` is a file of its commands. All three paths are relative to the lab's directory.
    pub(crate) fn crash(&self, lab: &Lab, script: &str, vmlinux: &str, dump: &str) -> Command {
        let options = ["-s", "--no_scroll", "-i"].map(String::from).into_iter();
        let files = [script, vmlinux, dump].map(Self::inside);
        self.command(lab, "crash", &options.chain(files).collect::<Vec<_>>())
    }
}

//! Network namespaces, as the commands about the network choose and name them.

use kdive_base::VirtAddr;
use kdive_linux::net;
use kdive_target::Kernel;

use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::select;

/// Network namespaces of one machine.
const MOST: usize = 1 << 20;

/// A namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    /// Its `struct net`.
    pub(crate) at: VirtAddr,
    /// Its number, as `/proc/PID/ns/net` shows it.
    pub(crate) number: Option<u32>,
}

impl Namespace {
    /// One, by its `struct net`.
    pub(crate) fn new(kernel: &Kernel, at: VirtAddr) -> Self {
        Self { at, number: net::number(kernel, at).ok() }
    }

    /// A line that begins its rows, where there are several.
    pub(crate) fn heading(&self) -> String {
        let number = self.number.map_or_else(String::new, |number| format!(" {number}"));
        format!("NAMESPACE{number}: {}\n", self.at)
    }
}

/// The namespaces that were asked for: all with `-A`, that of a task with `-n`, else the first one.
pub(crate) fn chosen(cx: &mut Cx, command: &str, args: &Args) -> Result<Vec<Namespace>, CommandError> {
    let kernel = cx.kernel.clone();
    if args.has("-A") {
        let mut all = Vec::new();
        for at in net::namespaces(&kernel)?.take(MOST) {
            let Some(at) = cx.known(at, "network namespaces", String::new) else { break };
            all.push(Namespace::new(&kernel, at));
        }
        return Ok(all);
    }
    let Some(word) = args.value("-n") else {
        return Ok(vec![Namespace::new(&kernel, net::initial(&kernel)?)]);
    };
    let mut all = Vec::new();
    for task in select::operands(cx, command, &[word.to_owned()])? {
        all.push(Namespace::new(&kernel, net::of_proxy(&kernel, task.nsproxy.clone()?)?));
    }
    all.truncate(1);
    Ok(all)
}

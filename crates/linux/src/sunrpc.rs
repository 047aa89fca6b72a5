//! Remote procedure calls (net/sunrpc, include/linux/sunrpc): which server was asked for what, by whom, and for how long
//! it has not answered. NFS asks this way.

use kdive_base::{VirtAddr, printable};
use kdive_target::walk;
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress};
use rustc_hash::FxHashMap;

use crate::block::Now;
use crate::net;

/// A client of one version of one program on one server (`struct rpc_clnt`).
#[derive(Clone, Debug, Load)]
#[load(type = "rpc_clnt", module)]
pub struct Client {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The program's number: 100003 is NFS (RFC 5531).
    #[load(any("cl_prog"))]
    pub program: Field<u32>,
    /// The program's version.
    #[load(any("cl_vers"))]
    pub version: Field<u32>,
    #[load(any("cl_program"))]
    description: Field<VirtAddr>,
    #[load(any("cl_tasks"))]
    calls: Field<MemberAddress>,
    /// Its transport (`struct rpc_xprt`), where it has one alone.
    #[load(any("cl_xprt"))]
    pub transport: Field<VirtAddr>,
}

/// A call (`struct rpc_task`).
#[derive(Clone, Debug, Load)]
#[load(type = "rpc_task", module)]
pub struct Call {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// What it does next: a function of net/sunrpc/clnt.c.
    #[load(any("tk_action"))]
    action: Field<VirtAddr>,
    /// The word whose bits its task sleeps on.
    #[load(any("tk_runstate"))]
    state: Field<MemberAddress>,
    #[load(any("tk_waitqueue"))]
    queue: Field<VirtAddr>,
    #[load(any("tk_msg.rpc_proc"))]
    procedure: Field<VirtAddr>,
    /// Its client (`struct rpc_clnt`).
    #[load(any("tk_client"))]
    pub client: Field<VirtAddr>,
    /// Its transport (`struct rpc_xprt`).
    #[load(any("tk_xprt"))]
    pub transport: Field<VirtAddr>,
    #[load(any("tk_rqstp"))]
    request: Field<VirtAddr>,
    /// By the monotonic clock.
    #[load(any("tk_start"))]
    start: Field<u64>,
    /// The process that made it, by number.
    #[load(any("tk_owner"))]
    pub owner: Field<i32>,
    /// Its state as an error, below zero.
    #[load(any("tk_status"))]
    pub status: Field<i32>,
    #[load(any("tk_flags"))]
    flags: Field<u16>,
    /// How often it timed out in whole.
    #[load(any("tk_timeouts"))]
    pub timeouts: Field<u16>,
}

/// What goes over the wire for a call (`struct rpc_rqst`).
#[derive(Clone, Debug, Load)]
#[load(type = "rpc_rqst", module)]
pub struct Request {
    /// Its number, big-endian.
    rq_xid: Field<u32>,
    /// When it was sent last, by the monotonic clock.
    rq_xtime: Field<u64>,
    /// How often it was sent.
    #[load(any("rq_ntrans"))]
    pub sent: Field<u32>,
    /// How often the time for an answer ran out.
    #[load(any("rq_retries"))]
    pub retries: Field<u32>,
}

/// The connection to a server (`struct rpc_xprt`).
#[derive(Clone, Debug, Load)]
#[load(type = "rpc_xprt", module)]
pub struct Transport {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    servername: Field<VirtAddr>,
    address_strings: Field<MemberAddress>,
    state: Field<u64>,
    /// Calls sent, ever.
    #[load(any("stat.sends"))]
    pub sends: Field<u64>,
    /// Answers received, ever.
    #[load(any("stat.recvs"))]
    pub receives: Field<u64>,
    last_used: Field<u64>,
}

#[derive(Load)]
#[load(type = "rpc_program", module)]
struct Program {
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "rpc_procinfo", module)]
struct Procedure {
    p_name: Field<VirtAddr>,
    p_proc: Field<u32>,
}

#[derive(Load)]
#[load(type = "rpc_wait_queue", module)]
struct Queue {
    name: Field<VirtAddr>,
}

/// `RPC_TASK_ASYNC`, include/linux/sunrpc/sched.h: no task waits for it.
const ASYNC: u16 = 1;
/// `XPRT_CONNECTED` and `XPRT_CONNECTING`, bits of a transport's state.
const CONNECTED: u64 = 1;
const CONNECTING: u64 = 2;
/// Places in `rpc_xprt.address_strings` (`enum rpc_display_format_t`).
const ADDRESS: u64 = 0;
const PORT: u64 = 1;
const PROTOCOL: u64 = 2;
const MOST_NAME_BYTES: usize = 256;
const MOST_CLIENTS: usize = 1 << 16;
const MOST_CALLS: usize = 1 << 20;
const MOST_NAMESPACES: usize = 1 << 16;

/// Whether the kernel has RPC: its module is loaded.
#[must_use]
pub fn is_loaded(kernel: &Kernel) -> bool {
    kernel.module_symbol("sunrpc_net_id").is_ok()
}

fn text(kernel: &Kernel, at: Field<VirtAddr>) -> Field<String> {
    let at = at?;
    if at.is_null() {
        return Err(Lacks::unavailable("it has no name"));
    }
    Ok(printable(&kernel.memory().c_string(at, MOST_NAME_BYTES)?))
}

/// The clients of all network namespaces, and why some are lacking.
///
/// # Errors
/// The module is not loaded, or its types are not known.
pub fn clients(kernel: &Kernel) -> Field<(Vec<Client>, Vec<Lacks>)> {
    let list = kernel.module_member("sunrpc_net", &["all_clients"])?.offset;
    let link = kernel.module_member("rpc_clnt", &["cl_clients"])?.offset;
    let id = kernel.module_symbol("sunrpc_net_id")?;
    let loader = kernel.loader::<Client>();
    let (mut all, mut lacking) = (Vec::new(), Vec::new());
    for namespace in net::namespaces(kernel)?.take(MOST_NAMESPACES) {
        let own = match namespace.and_then(|namespace| net::per_net(kernel, namespace, id)) {
            Ok(own) => own,
            Err(lacks) => {
                lacking.push(lacks);
                continue;
            }
        };
        for at in walk::list(kernel.memory(), own.add(list)).take(MOST_CLIENTS) {
            match at {
                Ok(at) => all.push(loader.load(at.sub(link))),
                Err(missing) => lacking.push(missing.into()),
            }
        }
    }
    Ok((all, lacking))
}

impl Client {
    /// The program's name: `nfs`, `mount`, `nlm`...
    ///
    /// # Errors
    /// It cannot be read.
    pub fn program_name(&self, kernel: &Kernel) -> Field<String> {
        text(kernel, kernel.load::<Program>(self.description.clone()?).name)
    }

    /// Its calls.
    ///
    /// # Errors
    /// Their list cannot be read to its end.
    pub fn calls(&self, kernel: &Kernel) -> Field<Vec<Call>> {
        let MemberAddress(head) = self.calls.clone()?;
        let link = kernel.module_member("rpc_task", &["tk_task"])?.offset;
        let loader: Loader<'_, Call> = kernel.loader();
        walk::list(kernel.memory(), head).take(MOST_CALLS).map(|at| Ok(loader.load(at?.sub(link)))).collect()
    }
}

impl Call {
    /// The procedure's name and number: `LOOKUP`, 3. A name is lacking where the kernel keeps no statistics of it.
    pub fn procedure(&self, kernel: &Kernel) -> (Field<String>, Field<u32>) {
        match self.procedure.clone() {
            Ok(at) if at.is_null() => {
                let none = || Lacks::unavailable("the call has no procedure");
                (Err(none()), Err(none()))
            }
            Ok(at) => {
                let procedure: Procedure = kernel.load(at);
                (text(kernel, procedure.p_name), procedure.p_proc)
            }
            Err(lacks) => (Err(lacks.clone()), Err(lacks)),
        }
    }

    /// What it does next: `call_status` waits for an answer, `call_connect_status` for a connection.
    #[must_use]
    pub fn action(&self, kernel: &Kernel) -> Option<String> {
        let place = kernel.place(self.action.clone().ok()?).filter(|place| place.offset == 0)?;
        Some(crate::tasks::plain_name(place.symbol.name).to_owned())
    }

    /// The queue that it stands in: `xprt_pending` for an answer, `xprt_sending` for its turn to be sent,
    /// `xprt_backlog` for a slot; `None` for a call that stands in none.
    #[must_use]
    pub fn queue(&self, kernel: &Kernel) -> Option<String> {
        let at = self.queue.clone().ok().filter(|at| !at.is_null())?;
        text(kernel, kernel.load::<Queue>(at).name).ok()
    }

    /// Whether nobody sleeps until it is done.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_async(&self) -> Field<bool> {
        Ok(self.flags.clone()? & ASYNC != 0)
    }

    /// Nanoseconds since it was made.
    #[must_use]
    pub fn age_ns(&self, now: &Now) -> Option<u64> {
        now.since_ns(self.start.clone().ok()?)
    }

    /// The word that a task sleeps on until the call is done.
    ///
    /// # Errors
    /// The type is not known.
    pub fn slept_on(&self) -> Field<VirtAddr> {
        self.state.clone().map(|MemberAddress(at)| at)
    }

    /// What goes over the wire for it; `None` before it has a slot.
    #[must_use]
    pub fn request(&self, kernel: &Kernel) -> Option<Request> {
        let at = self.request.clone().ok().filter(|at| !at.is_null())?;
        Some(kernel.load(at))
    }
}

impl Request {
    /// Its number, as a capture of packets shows it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn number(&self) -> Field<u32> {
        self.rq_xid.clone().map(u32::swap_bytes)
    }

    /// Nanoseconds since it was sent last; `None` before that.
    #[must_use]
    pub fn sent_ns(&self, now: &Now) -> Option<u64> {
        self.sent.clone().ok().filter(|times| *times > 0)?;
        now.since_ns(self.rq_xtime.clone().ok()?)
    }
}

impl Transport {
    /// The server, as it was named when it was mounted.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn server(&self, kernel: &Kernel) -> Field<String> {
        text(kernel, self.servername.clone())
    }

    fn display(&self, kernel: &Kernel, place: u64) -> Field<String> {
        let MemberAddress(strings) = self.address_strings.clone()?;
        text(kernel, Ok(kernel.memory().pointer(strings.add(place.wrapping_mul(8)))?))
    }

    /// The server's address: `10.0.0.1`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn address(&self, kernel: &Kernel) -> Field<String> {
        self.display(kernel, ADDRESS)
    }

    /// The server's port, as text.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn port(&self, kernel: &Kernel) -> Field<String> {
        self.display(kernel, PORT)
    }

    /// `tcp`, `udp`, `rdma`...
    ///
    /// # Errors
    /// It cannot be read.
    pub fn protocol(&self, kernel: &Kernel) -> Field<String> {
        self.display(kernel, PROTOCOL)
    }

    /// `connected`, `connecting` or `disconnected`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self) -> Field<&'static str> {
        let state = self.state.clone()?;
        Ok(match (state >> CONNECTED & 1, state >> CONNECTING & 1) {
            (1, _) => "connected",
            (_, 1) => "connecting",
            _ => "disconnected",
        })
    }

    /// Nanoseconds since it was last used to send, or was idle.
    #[must_use]
    pub fn idle_ns(&self, now: &Now) -> Option<u64> {
        now.since_jiffies(self.last_used.clone().ok()?)
    }
}

/// A call that tasks sleep on, in short.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    /// Its `struct rpc_task`.
    pub(crate) call: VirtAddr,
    /// Its transport.
    pub(crate) transport: Option<VirtAddr>,
    /// `nfs server 10.0.0.1`
    pub(crate) server: String,
    /// `nfs3 LOOKUP`
    pub(crate) operation: String,
    /// Nanoseconds since it was made.
    pub(crate) age_ns: Option<u64>,
}

/// The calls of all clients, by the word that their tasks sleep on.
pub(crate) fn awaited(kernel: &Kernel) -> FxHashMap<VirtAddr, Awaited> {
    let mut all = FxHashMap::default();
    if !is_loaded(kernel) {
        return all;
    }
    let Ok((clients, _)) = clients(kernel) else { return all };
    let now = Now::find(kernel);
    for client in &clients {
        let program = client.program_name(kernel).unwrap_or_else(|_| "rpc".to_owned());
        for call in client.calls(kernel).unwrap_or_default() {
            let Ok(word) = call.slept_on() else { continue };
            let transport = call.transport.clone().ok().filter(|at| !at.is_null());
            let transport = transport.or(client.transport.clone().ok()).filter(|at| !at.is_null());
            let address = transport.and_then(|at| kernel.load::<Transport>(at).address(kernel).ok());
            let version = client.version.as_ref().map_or_else(|_| String::new(), u32::to_string);
            let procedure = match call.procedure(kernel) {
                (Ok(name), _) => name,
                (_, Ok(number)) => format!("procedure {number}"),
                _ => "a call".to_owned(),
            };
            let server = format!("{program} server {}", address.as_deref().unwrap_or("of unknown address"));
            let operation = format!("{program}{version} {procedure}");
            let age_ns = call.age_ns(&now);
            all.insert(word, Awaited { call: call.at, transport, server, operation, age_ns });
        }
    }
    all
}

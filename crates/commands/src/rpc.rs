//! `rpc`: remote procedure calls that a server has not answered.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::Now;
use kdive_linux::locking::{LockKind, Locks};
use kdive_linux::sunrpc::{self, Call, Client, Transport};
use kdive_linux::tasks::{TaskName, Tasks};
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows remote procedure calls.
pub(crate) static RPC: Command = Command {
    names: &["rpc"],
    group: Group::Devices,
    summary: "calls to NFS and other servers that are not answered: server, procedure, age",
    operands: "",
    options: &[
        Opt::value("--older", "seconds", "only calls that are older"),
        Opt::flag("-s", "the servers: their clients and connections, with or without calls"),
    ],
    help: include_str!("rpc.md"),
    run: Run::Once(run),
};

/// A server, as a connection reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Server {
    /// Its `struct rpc_xprt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<VirtAddr>,
    /// Its name, as it was mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<String>,
    /// `tcp`, `udp`, `rdma`.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    /// `connected`, `connecting`, `disconnected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'static str>,
}

/// A call.
#[derive(Debug, Serialize)]
struct Row {
    /// Its `struct rpc_task`.
    call: VirtAddr,
    /// Its `struct rpc_clnt`.
    client: VirtAddr,
    #[serde(flatten)]
    server: Server,
    /// `nfs`, `mount`, `nlm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program_number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// `LOOKUP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    procedure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    procedure_number: Option<u32>,
    /// Its number on the wire; none before it has a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    xid: Option<String>,
    /// Nanoseconds since it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    /// Nanoseconds since it was sent last.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_ns: Option<u64>,
    /// How often it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    times_sent: Option<u32>,
    /// How often the time for an answer ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeouts: Option<u32>,
    /// The queue that it stands in: `xprt_pending` waits for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// The function that goes on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// Its state as an error, below zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i32>,
    /// Whether nobody sleeps until it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    asynchronous: Option<bool>,
    /// Who sleeps until it is done.
    tasks: Vec<TaskName>,
    /// The process that made it, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<i32>,
}

/// What a server is asked through.
#[derive(Debug, Serialize)]
struct ServerRow {
    #[serde(flatten)]
    server: Server,
    /// Its `struct rpc_clnt`.
    client: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// Calls that are not done.
    calls: usize,
    /// Calls that the connection sent, ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    /// Answers that it received, ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
}

const TITLES: &str =
    "RPC_TASK         SERVER           CALL              XID            AGE     SENT  STANDS    WAITS\n";
const SERVER_TITLES: &str =
    "RPC_CLNT         SERVER               PORT   PROTO CONNECTION    PROGRAM    CALLS     SENT RECEIVED\n";

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if !sunrpc::is_loaded(&kernel) {
        out.heading("This kernel calls no remote procedures: sunrpc is not loaded.\n")?;
        return Ok(());
    }
    let older = match args.value("--older") {
        None => 0,
        Some(word) => operand::seconds("rpc", "--older", word)?,
    };
    let (clients, lacking) = sunrpc::clients(&kernel)?;
    for lacks in &lacking {
        cx.lacks(lacks, "clients of RPC", String::new);
    }
    if args.has("-s") {
        return servers(cx, &clients, out);
    }
    let now = Now::find(&kernel);
    let mut rows = Vec::new();
    for client in &clients {
        cx.cancel.check()?;
        let place = || format!("rpc_clnt {:#}", client.at);
        let calls = cx.known(client.calls(&kernel), "calls", place).unwrap_or_default();
        rows.extend(calls.iter().map(|call| row(cx, client, call, &now)));
    }
    rows.retain(|row: &Row| row.age_ns.is_none_or(|age| age >= older));
    rows.sort_by_key(|row| std::cmp::Reverse(row.age_ns));
    let Some(oldest) = rows.first().map(|row| Known(row.age_ns.map(Age)).to_string()) else {
        out.heading("No server owes an answer.\n")?;
        return Ok(());
    };
    sleepers(&kernel, &mut rows);
    let calls = if rows.len() == 1 { "call is" } else { "calls are" };
    out.heading(&format!("{} {calls} not done; the oldest is {oldest} old.\n\n{TITLES}", rows.len()))?;
    for row in &rows {
        cx.cancel.check()?;
        out.row(row, &())?;
    }
    Ok(())
}

/// Adds the tasks that sleep on calls.
fn sleepers(kernel: &Kernel, rows: &mut [Row]) {
    let waits = Locks::find(kernel).waits.iter().filter(|wait| wait.kind == LockKind::Rpc);
    for wait in waits {
        if let Some(row) = rows.iter_mut().find(|row| wait.call == Some(row.call)) {
            row.tasks.push(wait.task.clone());
        }
    }
    let tasks = Tasks::find(kernel);
    for row in rows {
        // A call that another thread makes for a process: it is only known who asked.
        if row.tasks.is_empty() && row.asynchronous == Some(false) {
            let owner = row.made_by.and_then(|pid| tasks.with_pid(pid).next().map(TaskName::of));
            row.tasks.extend(owner);
        }
    }
}

fn server(cx: &mut Cx, at: Option<VirtAddr>) -> Server {
    let kernel = cx.kernel.clone();
    let Some(at) = at.filter(|at| !at.is_null()) else {
        return Server {
            transport: None,
            server: None,
            address: None,
            port: None,
            protocol: None,
            connection: None,
        };
    };
    let place = || format!("rpc_xprt {at:#}");
    let transport: Transport = kernel.load(at);
    Server {
        transport: Some(at),
        server: transport.server(&kernel).ok(),
        address: cx.known(transport.address(&kernel), "addresses of servers", place),
        port: transport.port(&kernel).ok(),
        protocol: transport.protocol(&kernel).ok(),
        connection: cx.known(transport.state(), "connections", place),
    }
}

fn row(cx: &mut Cx, client: &Client, call: &Call, now: &Now) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("rpc_task {:#}", call.at);
    let own = call.transport.clone().ok().filter(|at| !at.is_null());
    let request = call.request(&kernel);
    let (procedure, procedure_number) = call.procedure(&kernel);
    Row {
        call: call.at,
        client: client.at,
        server: server(cx, own.or(client.transport.clone().ok())),
        program: client.program_name(&kernel).ok(),
        program_number: client.program.clone().ok(),
        version: cx.known(client.version.clone(), "versions", place),
        procedure: procedure.ok(),
        procedure_number: cx.known(procedure_number, "procedures", place),
        xid: request.as_ref().and_then(|of| of.number().ok()).map(|number| format!("{number:#010x}")),
        age_ns: call.age_ns(now),
        sent_ns: request.as_ref().and_then(|of| of.sent_ns(now)),
        times_sent: request.as_ref().and_then(|of| of.sent.clone().ok()),
        timeouts: request.as_ref().and_then(|of| of.retries.clone().ok()),
        queue: call.queue(&kernel),
        action: call.action(&kernel),
        status: call.status.clone().ok(),
        asynchronous: cx.known(call.is_async(), "flags of calls", place),
        tasks: Vec::new(),
        made_by: call.owner.clone().ok(),
    }
}

fn servers(cx: &mut Cx, clients: &[Client], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if clients.is_empty() {
        out.heading("There is no client of RPC.\n")?;
        return Ok(());
    }
    out.heading(SERVER_TITLES)?;
    for client in clients {
        cx.cancel.check()?;
        let place = || format!("rpc_clnt {:#}", client.at);
        let transport = client.transport.clone().ok().filter(|at| !at.is_null());
        let counts = transport.map(|at| kernel.load::<Transport>(at));
        let row = ServerRow {
            server: server(cx, transport),
            client: client.at,
            program: client.program_name(&kernel).ok(),
            version: cx.known(client.version.clone(), "versions", place),
            calls: cx.known(client.calls(&kernel), "calls", place).map_or(0, |calls| calls.len()),
            sent: counts.as_ref().and_then(|of| of.sends.clone().ok()),
            received: counts.as_ref().and_then(|of| of.receives.clone().ok()),
        };
        out.row(&row, &())?;
    }
    Ok(())
}

impl Server {
    fn title(&self) -> &str {
        self.address.as_deref().or(self.server.as_deref()).unwrap_or(UNKNOWN)
    }
}

/// `nfs3`
fn program(name: Option<&str>, version: Option<u32>) -> String {
    format!("{}{}", name.unwrap_or("rpc"), Known(version))
}

impl Row {
    /// What the call waits for, in a word.
    fn stands(&self) -> &str {
        match (self.queue.as_deref(), self.server.connection) {
            (Some("xprt_pending"), Some("connected")) => "sent",
            (Some("xprt_pending"), Some(state)) => state,
            (Some("xprt_sending"), _) => "sending",
            (Some("xprt_backlog"), _) => "no slot",
            (Some("xprt_binding"), _) => "binding",
            (Some("delayq"), _) => "retry",
            (Some(other), _) => other,
            (None, _) => "running",
        }
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let procedure = match (&self.procedure, self.procedure_number) {
            (Some(name), _) => name.clone(),
            (None, number) => format!("procedure {}", Known(number)),
        };
        let call = format!("{} {procedure}", program(self.program.as_deref(), self.version));
        write!(out, "{} {:<16} {call:<17} ", self.call, self.server.title())?;
        write!(out, "{:<10} ", self.xid.as_deref().unwrap_or("-"))?;
        let sent = self.sent_ns.map_or_else(|| "-".to_owned(), |age| Age(age).to_string());
        write!(out, "{:>7}  {sent:>7}  {:<9}", Known(self.age_ns.map(Age)), self.stands())?;
        match (self.tasks.as_slice(), self.made_by) {
            ([], Some(pid)) => write!(out, " nobody, made by {pid}")?,
            ([], None) => write!(out, " nobody")?,
            (tasks, _) => {
                tasks.iter().enumerate().try_for_each(|(index, task)| {
                    write!(out, "{} {task}", if index > 0 { "," } else { "" })
                })?;
            }
        }
        match self.timeouts {
            Some(1) => write!(out, ", 1 timeout")?,
            Some(timeouts) if timeouts > 0 => write!(out, ", {timeouts} timeouts")?,
            _ => {}
        }
        out.write_char('\n')
    }
}

impl Render for ServerRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let of = &self.server;
        let (port, protocol) = (of.port.as_deref(), of.protocol.as_deref());
        write!(out, "{} {:<20} {:<6} {:<5} ", self.client, of.title(), Known(port), Known(protocol))?;
        write!(out, "{:<13} ", Known(of.connection))?;
        write!(out, "{:<10} {:>5} ", program(self.program.as_deref(), self.version), self.calls)?;
        writeln!(out, "{:>8} {:>8}", Known(self.sent), Known(self.received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_slot_was_not_sent() {
        let server = Server {
            transport: None,
            server: Some("files".into()),
            address: Some("10.0.0.1".into()),
            port: None,
            protocol: None,
            connection: Some("connecting"),
        };
        let row = Row {
            call: VirtAddr(0x10),
            client: VirtAddr(0x20),
            server,
            program: Some("nfs".into()),
            program_number: Some(100_003),
            version: Some(3),
            procedure: None,
            procedure_number: Some(22),
            xid: None,
            age_ns: Some(5_000_000_000),
            sent_ns: None,
            times_sent: None,
            timeouts: None,
            queue: Some("xprt_pending".into()),
            action: None,
            status: None,
            asynchronous: Some(true),
            tasks: Vec::new(),
            made_by: Some(7),
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "0000000000000010 10.0.0.1         nfs3 procedure 22 -            5.0 s        -  \
             connecting nobody, made by 7\n"
        );
    }
}

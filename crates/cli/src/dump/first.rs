//! The pages that are written first, so that a dump that was cut still tells what happened.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kdive_base::Cancel;
use kdive_commands::{BT, Command, Cx, Invocation, LOG, MOD, PS, SYS, TextSink};
use kdive_dump::Touched;
use kdive_dump::write::Frames;
use kdive_target::Kernel;

/// What is asked of a dump before anything else, and with which option: the pages that they read, opening the kernel
/// included, come first. Not by their names, for the list of all commands would bring them all into a small program.
static COMMANDS: [(&Command, Option<&str>); 6] =
    [(&SYS, None), (&LOG, None), (&BT, None), (&BT, Some("-a")), (&MOD, None), (&PS, None)];
/// A kernel that is so damaged that they take longer is written in the order of its memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon it is noticed that the user has had enough.
const GLANCE: Duration = Duration::from_millis(100);

/// The pages that `COMMANDS` read, then the rest of the kernel's image and of its modules.
pub(super) fn pages(kernel: &Arc<Kernel>, touched: &Touched, stop: &Cancel) -> Vec<Frames> {
    let (own, start) = (Cancel::default(), Instant::now());
    std::thread::scope(|scope| {
        let (done, waits) = channel::<()>();
        let own = &own;
        scope.spawn(move || {
            while waits.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
                if start.elapsed() > PATIENCE || stop.is_cancelled() {
                    own.cancel();
                }
            }
        });
        for (command, option) in COMMANDS {
            let words = option.iter().map(|option| (*option).to_owned()).collect();
            let mut cx = Cx { cancel: own.clone(), ..Cx::new(kernel.clone()) };
            // What cannot be told now cannot be told of a part either.
            let _ = Invocation { command, words }.run(&mut cx, &mut TextSink::new(std::io::sink()));
        }
        drop(done);
    });
    touched.stop();
    vec![touched.frames(), kdive_filter::image(kernel)]
}

//! A partition in a host test that needs no thread of its own: its script is an `async` function, which runs as far as its
//! next call whenever its vCPU runs. So a schedule that a test chooses decides about all of it.

use super::{Bench, Entry};
use crate::fault::{Fault, FaultKind};
use crate::machine::Exit;
use bulkhead_ffa::{EndpointId, Regs, function};
use std::boxed::Box;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// What passes between a script and the machine that runs it.
struct Turn {
    entered: Option<Entry>,
    stopped: Option<(Regs, Exit)>,
    last: Entry,
}

/// A script that has begun.
pub(super) struct Play {
    turn: Arc<Mutex<Turn>>,
    rest: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A script that has not.
pub(super) type Scenario = Box<dyn FnOnce(Actor) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl Play {
    /// Begins a script, as at a reset.
    pub fn new(script: Scenario, id: EndpointId, entry: u64, bench: Bench) -> Self {
        let turn = Arc::new(Mutex::new(Turn { entered: None, stopped: None, last: Entry::default() }));
        let rest = script(Actor { turn: turn.clone(), id, entry, bench });
        Self { turn, rest }
    }

    /// Runs the script until it stops.
    pub fn run(&mut self, entry: Entry) -> (Regs, Exit) {
        {
            let mut turn = self.turn.lock().expect("scripts do not panic unseen");
            turn.last = entry;
            turn.entered = Some(entry);
        }
        let ended = self.rest.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let mut turn = self.turn.lock().expect("scripts do not panic unseen");
        // What has nothing more to say waits; nobody may have anything to say to it.
        let wait = (Regs::new(&[u64::from(function::MSG_WAIT)]), Exit::Call);
        turn.stopped.take().unwrap_or_else(|| if ended { wait } else { panic!("a script waits for something else than an answer") })
    }
}

/// A partition's view, in its script.
pub struct Actor {
    turn: Arc<Mutex<Turn>>,
    /// Its identity.
    pub id: EndpointId,
    /// Where it was entered first.
    pub entry: u64,
    /// The bench, to reach memory.
    pub bench: Bench,
}

/// One turn: what the script does, then what it gets.
struct Switch<'a> {
    turn: &'a Mutex<Turn>,
    stop: Option<(Regs, Exit)>,
}

impl Future for Switch<'_> {
    type Output = Regs;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Regs> {
        let mut turn = self.turn.lock().expect("scripts do not panic unseen");
        match self.stop.take() {
            Some(stop) => {
                turn.entered = None;
                turn.stopped = Some(stop);
                Poll::Pending
            }
            None => turn.entered.take().map_or(Poll::Pending, |entry| Poll::Ready(entry.regs)),
        }
    }
}

impl Actor {
    async fn switch(&mut self, regs: Regs, exit: Exit) -> Regs {
        Switch { turn: &self.turn, stop: Some((regs, exit)) }.await
    }

    fn last(&self) -> Entry {
        self.turn.lock().expect("scripts do not panic unseen").last
    }

    /// Makes a call with these registers and returns those with which the vCPU runs on.
    pub async fn call(&mut self, x: &[u64]) -> Regs {
        self.switch(Regs::new(x), Exit::Call).await
    }

    /// FFA_MSG_WAIT: returns the next message.
    pub async fn wait(&mut self) -> Regs {
        self.call(&[u64::from(function::MSG_WAIT)]).await
    }

    /// Answers the direct request `request` with a payload from x3 (or, for REQ2, x4) on; returns the next message.
    pub async fn respond(&mut self, request: &Regs, payload: &[u64]) -> Regs {
        let regs = super::response(self.id, request, payload);
        self.switch(regs, Exit::Call).await
    }

    /// Sends a 32-bit direct request to another partition and returns its answer.
    pub async fn request(&mut self, receiver: u16, payload: &[u64]) -> Regs {
        let mut regs = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), u64::from(self.id.0) << 16 | u64::from(receiver)]);
        regs.0[3..3 + payload.len()].copy_from_slice(payload);
        self.switch(regs, Exit::Call).await
    }

    /// Is stopped by something else than a call; runs on when the SPMC lets it.
    pub async fn stop(&mut self, exit: Exit) {
        let before = self.last().regs;
        let after = self.switch(before, exit).await;
        assert_eq!(after, before, "registers survive what the guest does not see");
    }

    /// An access that it may not make.
    pub async fn crash(&mut self) -> ! {
        let fault = Fault { kind: FaultKind::Exception, pc: 0x1000, esr: 0x9200_0046, address: Some(0xdead_0000) };
        self.switch(Regs::default(), Exit::Fault(fault)).await;
        unreachable!("a failed vCPU ran again");
    }

    /// A virtual interrupt handler's first call: which interrupt it is.
    pub async fn interrupt(&mut self) -> u64 {
        self.call(&[0xff04]).await.0[0]
    }

    /// The registers of the latest entry.
    pub fn regs(&self) -> Regs {
        self.last().regs
    }

    /// The core that it runs on.
    pub fn core(&self) -> usize {
        self.last().core
    }

    /// Whether its virtual IRQ line is up.
    pub fn irq(&self) -> bool {
        self.last().irq
    }
}

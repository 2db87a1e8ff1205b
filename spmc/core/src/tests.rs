//! Behaviour of the whole core, a call at a time: one module for each group of calls.

mod buffers;
mod chains;
mod cores;
mod discovery;
mod fast;
mod hostile;
mod indirect;
mod interrupts;
mod lifecycle;
mod messages;
mod notifications;
mod timers;
mod vms;

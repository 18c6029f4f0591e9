//! The in-process floor: one thread a core decodes and runs, and nothing else. What serving costs is
//! measured against it.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Result, anyhow};
use linesight::types::Instant;

use crate::{
    machine::Cpu,
    stats::per_second,
    subject::{Core, Subject},
    window::{Rate, Window},
};

/// A thread's worth of sessions and buffers for each core, opened once.
pub struct Floor<'a> {
    subject: &'a Subject,
    cores: Vec<Core<'a>>,
}

impl<'a> Floor<'a> {
    pub fn open(subject: &'a Subject, n_cores: usize) -> Result<Self> {
        let cores = (0..n_cores).map(|_| subject.core()).collect::<Result<_>>()?;
        Ok(Self { subject, cores })
    }

    /// Pictures a second with every core busy.
    pub fn throughput(&mut self, window: Window) -> Result<Rate> {
        self.busy(window, |core, jpeg| core.judge(jpeg).map(drop))
    }

    /// Runs a second with every core busy, of rows that are ready.
    pub fn runs(&mut self, window: Window) -> Result<Rate> {
        self.busy(window, |core, _| core.run().map(drop))
    }

    fn busy(
        &mut self,
        window: Window,
        work_on: impl Fn(&mut Core<'_>, &[u8]) -> Result<()> + Sync,
    ) -> Result<Rate> {
        let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let pictures = &self.subject.pictures;
        let work = |core: &mut Core<'_>, offset: usize| -> Result<()> {
            let endless = pictures.iter().cycle().skip(offset);
            for picture in endless.take_while(|_| !stop.load(Ordering::Relaxed)) {
                work_on(core, &picture.jpeg)?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = (self.cores.iter_mut().enumerate())
                .map(|(at, core)| scope.spawn(move || work(core, at)))
                .collect();
            window.warm_up();
            let (count, cpu, started) =
                (done.load(Ordering::Relaxed), Cpu::of_self(), Instant::now());
            window.measure();
            let count = done.load(Ordering::Relaxed) - count;
            let rate = Rate {
                per_second: per_second(count, started.elapsed()),
                cpu_ms: cpu.since().per(count),
            };
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().map_err(|_panic| anyhow!("a thread of the floor panicked"))??;
            }
            Ok(rate)
        })
    }

    /// How long each picture takes on one thread, the other cores idle.
    pub fn one_by_one(&mut self, window: Window) -> Result<Vec<Duration>> {
        let Some(core) = self.cores.first_mut() else { return Ok(Vec::new()) };
        let started = Instant::now();
        let mut took = Vec::new();
        for picture in self.subject.pictures.iter().cycle() {
            let before = Instant::now();
            core.judge(&picture.jpeg)?;
            let now = Instant::now();
            if now - started > window.total() {
                break;
            }
            if now - started > window.warm_up {
                took.push(now - before);
            }
        }
        Ok(took)
    }
}

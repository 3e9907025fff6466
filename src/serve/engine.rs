//! The one thread that owns the dumps: what is asked stands in a queue, and is answered in order. Whoever asked may stop it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::Options;
use super::allowed::Allowed;
use super::answer;
use super::params::Given;
use super::tools::Tool;
use crate::commands::ALL;
use crate::shell::Format;
use crate::shell::page::Page;
use crate::shell::returns::Returns;
use crate::shell::state::{Shell, Taken};
use crate::watch::Watch;

/// Dumps that are open at a time: the one used longest ago is closed, and opened again when it is asked about.
const MOST_OPEN: usize = 8;
/// Dumps that are known by an id.
const MOST_KNOWN: usize = 1000;
/// Answers of one call: loops give one a round.
const MOST_ANSWERS: usize = 50;

/// Why a call ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The other side does not want it any more.
    Cancelled,
    /// Its time is over.
    Budget,
}

#[derive(Debug, Default)]
struct Stage {
    begun: Option<Instant>,
    done: bool,
    stop: Option<Stop>,
}

/// One call, as it is seen from outside.
#[derive(Debug, Clone)]
pub struct Ticket {
    stage: Arc<Mutex<Stage>>,
    watch: Watch,
}

impl Ticket {
    fn new(watch: Watch) -> Self {
        Self { stage: Arc::default(), watch }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the call end. Of a call that is not running, only that one hears of it.
    pub fn stop(&self, why: Stop) {
        let mut stage = self.stage();
        if stage.done || stage.stop.is_some() {
            return;
        }
        stage.stop = Some(why);
        if stage.begun.is_some() {
            self.watch.cancel.set();
        }
    }

    /// How long it has been running.
    pub fn running(&self) -> Option<Duration> {
        let stage = self.stage();
        stage.begun.filter(|_| !stage.done).map(|b| b.elapsed())
    }

    /// What it is doing.
    pub fn progress(&self) -> (&'static str, u64, u64) {
        self.watch.progress.now()
    }

    fn begin(&self) -> bool {
        let mut stage = self.stage();
        self.watch.cancel.clear();
        stage.begun = Some(Instant::now());
        stage.stop.is_none()
    }

    fn end(&self) {
        self.stage().done = true;
    }

    fn stopped(&self) -> Option<Stop> {
        self.stage().stop
    }
}

struct Job {
    tool: &'static Tool,
    given: Given,
    ticket: Ticket,
    done: oneshot::Sender<Result<Done>>,
}

/// What a call gives.
#[derive(Debug, Default)]
pub struct Done {
    /// The answer.
    pub value: Map<String, Value>,
    /// Nothing of it worked.
    pub failed: bool,
}

impl Done {
    /// An answer that no dump has a part in.
    pub fn told(command: &str, tables: Vec<Value>) -> Self {
        let answer = json!({
            "command": command, "outcome": "complete", "facts": {}, "untrusted_facts": [], "tables": tables,
        });
        let mut done = Self::default();
        done.set("partial", false.into());
        done.set("answers", json!([answer]));
        done
    }

    /// Sets a value.
    pub fn set(&mut self, key: &str, value: Value) {
        self.value.insert(key.into(), value);
        for (key, value) in [("partial", json!(false)), ("answers", json!([]))] {
            self.value.entry(key).or_insert(value);
        }
    }

    /// Adds a table to the first answer, if it worked.
    pub fn add_table(&mut self, table: Value) {
        let tables =
            self.value.get_mut("answers").and_then(|a| a.pointer_mut("/0/tables")).and_then(Value::as_array_mut);
        if let Some(tables) = tables.filter(|_| !self.failed) {
            tables.push(table);
        }
    }
}

/// The way to the thread.
#[derive(Debug, Clone)]
pub struct Engine {
    jobs: Sender<Job>,
    watch: Watch,
}

impl Engine {
    /// Starts the thread.
    pub fn start(options: Options, allowed: Allowed) -> Result<Self> {
        let watch = Watch::default();
        let ((jobs, asked), (ready, began)) = (channel(), channel());
        let of_desk = watch.clone();
        // What it has before it never leaves the thread.
        let work = move || match Desk::new(options, allowed, of_desk) {
            Ok(mut desk) => {
                drop(ready.send(Ok(())));
                serve(&mut desk, &asked);
            }
            Err(e) => drop(ready.send(Err(e))),
        };
        std::thread::Builder::new().name("dumps".into()).spawn(work)?;
        began.recv().map_err(|_| anyhow!("the thread that answers has ended"))??;
        Ok(Self { jobs, watch })
    }

    /// Puts a call in the queue.
    pub fn send(&self, tool: &'static Tool, given: Given) -> (Ticket, oneshot::Receiver<Result<Done>>) {
        let ticket = Ticket::new(self.watch.clone());
        let (done, answer) = oneshot::channel();
        // Where the thread has ended, nobody answers, and that is said.
        let _ = self.jobs.send(Job { tool, given, ticket: ticket.clone(), done });
        (ticket, answer)
    }

    /// Stops what runs: the other side has gone.
    pub fn close(&self) {
        self.watch.cancel.set();
    }
}

fn serve(desk: &mut Desk, jobs: &Receiver<Job>) {
    for job in jobs {
        let Job { tool, given, ticket, done } = job;
        desk.ticket = ticket.clone();
        let answer = match ticket.begin() {
            true => catch_unwind(AssertUnwindSafe(|| (tool.run)(desk, &given)))
                .unwrap_or_else(|_| Err(anyhow!("this call hit a bug in clrscope; please report it"))),
            false => Err(anyhow!("cancelled")),
        };
        ticket.end();
        desk.watch.progress.finish();
        // Nobody waits for what was cancelled.
        let _ = done.send(answer);
    }
}

/// A dump by its id, which is its place in the list.
struct Known {
    path: PathBuf,
    shell: Option<Shell>,
    used: u64,
}

/// What the thread has before it.
pub struct Desk {
    dumps: Vec<Option<Known>>,
    current: Option<usize>,
    /// Answers what needs no dump.
    bare: Shell,
    uses: u64,
    taken: Taken,
    allowed: Allowed,
    options: Options,
    watch: Watch,
    ticket: Ticket,
}

impl Desk {
    fn new(options: Options, allowed: Allowed, watch: Watch) -> Result<Self> {
        let taken = Taken::default();
        let bare = shell(&options, &watch, &taken);
        let ticket = Ticket::new(watch.clone());
        let given = options.dumps.clone();
        let mut desk = Self { dumps: Vec::new(), current: None, bare, uses: 0, taken, allowed, options, watch, ticket };
        for path in given {
            let path = path.canonicalize().map_err(|e| anyhow!("cannot open {}: {e}", path.display()))?;
            desk.known(path)?;
        }
        // The first one is the one that is meant, until another is opened.
        desk.current = (!desk.dumps.is_empty()).then_some(0);
        Ok(desk)
    }

    /// Where dumps may be opened from.
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Makes a dump known; the next questions are about it.
    pub fn known(&mut self, path: PathBuf) -> Result<usize> {
        let has = |k: &Option<Known>| k.as_ref().is_some_and(|k| k.path == path);
        let at = match self.dumps.iter().position(has) {
            Some(at) => at,
            None if self.dumps.len() >= MOST_KNOWN => bail!("{MOST_KNOWN} dumps are known; start another server"),
            None => {
                self.dumps.push(Some(Known { path, shell: None, used: 0 }));
                self.dumps.len() - 1
            }
        };
        self.current = Some(at);
        Ok(at)
    }

    /// Drops a dump that could not be opened.
    pub fn forget(&mut self, at: usize) {
        if let Some(known) = self.dumps.get_mut(at) {
            *known = None;
        }
        self.current = self.dumps.iter().rposition(Option::is_some);
    }

    fn at(&self, at: usize) -> Result<&Known> {
        self.dumps.get(at).and_then(Option::as_ref).ok_or_else(|| anyhow!("no such dump"))
    }

    /// The dump with this id, or the current one.
    pub fn dump(&self, id: Option<&str>) -> Result<usize> {
        let Some(id) = id else {
            return self.current.ok_or_else(|| anyhow!("no dump is open; call `open` with a path"));
        };
        let at = id.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|at| self.at(*at).is_ok());
        at.ok_or_else(|| anyhow!("no dump has the id `{}`; `open` without a path lists them", answer::short(id)))
    }

    /// The file of the dump with this id.
    pub fn path(&self, id: &str) -> Option<PathBuf> {
        let at = self.dump(Some(id)).ok()?;
        self.at(at).ok().map(|k| k.path.clone())
    }

    /// The dumps that are known.
    pub fn list(&self) -> Value {
        let all = (0..self.dumps.len()).filter(|at| self.at(*at).is_ok());
        all.map(|at| self.describe(at)).collect()
    }

    fn describe(&self, at: usize) -> Value {
        let file = self.at(at).ok().and_then(|k| k.path.file_name()).map(|n| answer::short(&n.to_string_lossy()));
        json!({"id": (at + 1).to_string(), "file": file.unwrap_or_default()})
    }

    /// The shell on a dump, opened now where it is not.
    pub fn shell(&mut self, at: usize) -> Result<&mut Shell> {
        self.uses += 1;
        let is_open = |k: &Option<Known>| k.as_ref().is_some_and(|k| k.shell.is_some());
        if !self.dumps.get(at).is_some_and(is_open) {
            let path = self.at(at)?.path.clone();
            let mut new = shell(&self.options, &self.watch, &self.taken);
            new.open(&path).map_err(|e| anyhow!("{}", answer::short(&e.to_string())))?;
            if self.dumps.iter().filter(|k| is_open(k)).count() >= MOST_OPEN {
                let oldest = self.dumps.iter_mut().flatten().filter(|k| k.shell.is_some()).min_by_key(|k| k.used);
                oldest.into_iter().for_each(|k| k.shell = None);
            }
            if let Some(Some(known)) = self.dumps.get_mut(at) {
                known.shell = Some(new);
            }
        }
        let uses = self.uses;
        let known = self.dumps.get_mut(at).and_then(Option::as_mut);
        known
            .and_then(|k| {
                k.used = uses;
                k.shell.as_mut()
            })
            .ok_or_else(|| anyhow!("no such dump"))
    }

    /// The answers of a dump to these lines.
    pub fn ask(&mut self, at: usize, lines: &[String], page: &Page) -> Result<Done> {
        self.about(at, lines, page, false)
    }

    /// As [`Desk::ask`], of a line that names a file which was allowed.
    pub fn ask_of_file(&mut self, at: usize, line: &str, page: &Page) -> Result<Done> {
        self.about(at, &[line.to_owned()], page, true)
    }

    fn about(&mut self, at: usize, lines: &[String], page: &Page, of_file: bool) -> Result<Done> {
        let (ticket, taken) = (self.ticket.clone(), self.taken.clone());
        let shell = self.shell(at)?;
        let mut gathered = Gathered::default();
        shell.settings.safe = !of_file;
        for line in lines {
            if ticket.stopped().is_none() {
                gathered.add(shell, &taken, line, page, false);
            }
        }
        shell.settings.safe = true;
        let mut done = gathered.done(ticket.stopped());
        done.set("dump", self.describe(at));
        Ok(done)
    }

    /// The answer to a line that no dump has a part in.
    pub fn ask_nothing(&mut self, line: &str, page: &Page) -> Result<Done> {
        let mut gathered = Gathered::default();
        gathered.add(&mut self.bare, &self.taken, line, page, true);
        Ok(gathered.done(self.ticket.stopped()))
    }
}

fn shell(options: &Options, watch: &Watch, taken: &Taken) -> Shell {
    let sink = taken.clone();
    let mut shell = Shell {
        commands: ALL,
        settings: options.settings.clone(),
        session: None,
        format: Format::Json,
        watch: watch.clone(),
        open: options.open.clone(),
        recent: Arc::default(),
        sink: Box::new(move || Box::new(sink.clone())),
        depth: 0,
        last: String::new(),
        state: Default::default(),
    };
    shell.settings.safe = true;
    shell.state.errors = Some(Arc::default());
    shell
}

/// Answers of one call.
#[derive(Default)]
struct Gathered {
    answers: Vec<Value>,
    more: u64,
}

impl Gathered {
    /// Runs a line.
    fn add(&mut self, shell: &mut Shell, taken: &Taken, line: &str, page: &Page, trusted: bool) {
        taken.bytes();
        shell.state.page = Some(page.clone());
        shell.state.stop_said = false;
        shell.line(line);
        if let Some(errors) = &shell.state.errors {
            errors.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let bytes = taken.bytes();
        let mut lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).peekable();
        if lines.peek().is_none_or(|l| !l.starts_with(b"{")) {
            let why = "nothing was answered as data: leave -csv out, and commands that act on a terminal";
            self.answers.push(json!({"command": answer::short(line), "outcome": "failed", "reason": why, "facts": {}, "untrusted_facts": [], "tables": []}));
            return;
        }
        for raw in lines {
            if self.answers.len() >= MOST_ANSWERS {
                self.more += 1;
            } else if let Ok(raw) = serde_json::from_slice::<Value>(raw) {
                let command = raw.get("command").and_then(Value::as_str).unwrap_or_default();
                let returns: Returns = answer::declared(shell, command);
                self.answers.push(answer::converted(raw, &returns, trusted));
            }
        }
    }

    /// The whole, and whether something is missing.
    fn done(mut self, stop: Option<Stop>) -> Done {
        let over = stop == Some(Stop::Budget);
        if over {
            // What was interrupted has what there was until then.
            self.answers.iter_mut().filter(|a| is_interrupted(a)).for_each(|a| a["outcome"] = "partial".into());
        }
        let ended = |how: &str| self.answers.iter().filter(|a| a["outcome"] == how).count();
        let (partial, failed) = (over || ended("partial") > 0, ended("failed"));
        let mut done = Done { failed: failed > 0 && failed == self.answers.len(), ..Done::default() };
        done.set("partial", partial.into());
        if over {
            done.set("partial_reason", "budget_ms is over; a later call goes on with what was found meanwhile".into());
        }
        if self.more > 0 {
            done.set("more_answers", self.more.into());
        }
        done.set("answers", self.answers.into());
        done
    }
}

fn is_interrupted(answer: &Value) -> bool {
    answer["outcome"] == "failed" && answer["reason"].as_str().is_some_and(|r| r.ends_with("interrupted"))
}

//! The context: the only thing through which a component reaches the world around its build.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
pub(crate) use crate::duration::seconds::serialize as seconds;
use crate::error::{Error, ErrorInfo, Fault, Result};
use crate::event::{EventKind, Events, Level};
use crate::facts::{BuildInfo, Facts};
use crate::ledger::{Ledger, MemoryLedger, Resource, ResourceId, Role};
use crate::secrets::{Secret, Secrets};
use crate::value::Value;

mod host;

pub use host::{Host, Prompt};

/// What a running component knows and may do. Cheap to clone.
///
/// Two cancellation scopes run through it: *stop working*, which [`step`](Self::step), [`own`](Self::own) and
/// [`sleep`](Self::sleep) heed by themselves, and *abandon cleanup*, the only one that reaches a context in which
/// resources are released.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    build: Arc<BuildInfo>,
    run: Arc<RunContext>,
    facts: Arc<Facts>,
    post_processor: Option<Arc<str>>,
    /// The type of the component whose resources this context owns, and what kind of component it is.
    component: Arc<str>,
    role: Role,
    record: Arc<BuildRecord>,
    stop: CancellationToken,
    /// When the engine drops the work, whatever it is at.
    deadline: Option<tokio::time::Instant>,
}

/// What is remembered of one build while it runs.
#[derive(Default)]
pub(crate) struct BuildRecord {
    /// What the build has brought into the world: its part of the ledger.
    pub(crate) owned: MemoryLedger,
    /// What is out of the ledger although the build still holds it: finished artifacts own it.
    pub(crate) complete: Mutex<HashSet<ResourceId>>,
    /// How the components that work are configured, each role's last one.
    configs: Mutex<Vec<(Role, Config)>>,
    steps: Mutex<Vec<StepTime>>,
    /// The innermost step of the work that was last dropped because of a cancellation or a limit.
    hung: Mutex<Option<String>>,
    /// How many threads do blocking work of the build.
    busy: tokio::sync::watch::Sender<usize>,
}

/// Says the configuration of a component, where the component does.
pub(crate) type Config = Arc<dyn Fn() -> Option<Value> + Send + Sync>;

impl fmt::Debug for BuildRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildRecord").field("owned", &self.owned).finish_non_exhaustive()
    }
}

/// A thread that does blocking work.
pub(crate) struct Busy(Arc<BuildRecord>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|busy| *busy -= 1);
    }
}

impl BuildRecord {
    fn add_step(&self, step: StepTime) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// Notes in which step work was dropped, unless one inside of it was noted.
    fn hung_in(&self, step: &str) {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| step.to_owned());
    }

    /// In which step the work was that has just been dropped.
    pub(crate) fn take_hung(&self) -> Option<String> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Counts a thread as busy until the value is dropped.
    pub(crate) fn busy(self: Arc<Self>) -> Busy {
        self.busy.send_modify(|busy| *busy += 1);
        Busy(self)
    }

    /// Returns when no thread works for the build.
    pub(crate) async fn quiet(&self) {
        // It fails only where the counter is gone, and that is here.
        let _ = self.busy.subscribe().wait_for(|busy| *busy == 0).await;
    }

    /// From now on this is how the component of a role is configured.
    pub(crate) fn configured(&self, role: Role, config: Config) {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        configs.retain(|(other, _)| *other != role);
        configs.push((role, config));
    }

    fn config_of(&self, role: Role) -> Option<Value> {
        let configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let config = configs.iter().find(|(other, _)| *other == role).map(|(_, config)| config.clone());
        drop(configs);
        config?()
    }

    /// The finished steps, in the order in which they ended.
    pub(crate) fn steps(&self) -> Vec<StepTime> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A named piece of work of a build, and how long it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepTime {
    /// What it did.
    pub name: String,
    /// How long after the beginning of the run it began.
    #[serde(with = "crate::duration::seconds", rename = "began_seconds")]
    pub began: Duration,
    /// How long it took.
    #[serde(with = "crate::duration::seconds", rename = "seconds")]
    pub elapsed: Duration,
    /// Why it failed; `None` where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}

/// What all contexts of a run share.
#[derive(Debug)]
pub(crate) struct RunContext {
    pub(crate) run_id: String,
    pub(crate) events: Events,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) secrets: Secrets,
    pub(crate) clock: Clock,
    pub(crate) host: Host,
    pub(crate) ids: AtomicU64,
    /// Ports of this computer that builds of the run have.
    ports: Mutex<BTreeSet<u16>>,
    /// What builds of the run found out and share, by type.
    shared: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// What was [asked](Context::ask_secret) and turned out right, by question.
    answers: tokio::sync::Mutex<BTreeMap<String, Secret>>,
    /// When the run began: what `{{timestamp}}` and `{{isotime}}` show.
    pub(crate) started: jiff::Timestamp,
    /// The same for measuring.
    pub(crate) began: Instant,
    /// Ends the second scope: cleanup.
    pub(crate) abandon: CancellationToken,
    /// How long the release of one resource may take; zero is for ever.
    pub(crate) release_limit: Duration,
    /// Sees to it that a later process could release what is recorded; `None` where nobody knows what that has.
    pub(crate) recoverable: Option<Recoverable>,
    /// Whether the engine has a cache for the states of machines.
    pub(crate) saves_states: bool,
}

/// Completes a resource before it is recorded, or says why a later process could not release it. The second argument gives
/// the configuration of the component that makes it, where the component says it.
#[derive(Clone)]
pub(crate) struct Recoverable(pub(crate) Arc<Complete>);

type Complete = dyn Fn(&mut Resource, &dyn Fn() -> Option<Value>, &Secrets) -> Result<()> + Send + Sync;

impl fmt::Debug for Recoverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recoverable")
    }
}

/// How long the release of one resource may take unless the host says otherwise.
pub(crate) const RELEASE_LIMIT: Duration = Duration::from_secs(15 * 60);

impl RunContext {
    /// A run that begins now.
    pub(crate) fn new(
        run_id: String,
        events: Events,
        ledger: Arc<dyn Ledger>,
        secrets: Secrets,
        clock: Clock,
        host: Host,
    ) -> Self {
        let started = clock.now();
        Self {
            run_id,
            events,
            ledger,
            secrets,
            clock,
            host,
            ids: AtomicU64::new(0),
            ports: Mutex::default(),
            shared: Mutex::default(),
            answers: tokio::sync::Mutex::default(),
            started,
            began: Instant::now(),
            abandon: CancellationToken::new(),
            release_limit: RELEASE_LIMIT,
            recoverable: None,
            saves_states: false,
        }
    }
}

/// What a component knows while its configuration is checked.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PrepareContext {
    /// The build it is checked for.
    pub build: Arc<BuildInfo>,
    /// What the host lends.
    pub host: Host,
}

impl PrepareContext {
    /// For a build, with what the host lends.
    pub fn new(build: Arc<BuildInfo>, host: Host) -> Self {
        Self { build, host }
    }

    /// A variable that the host lends; a `~` in a path is `HOME`.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.host.env.get(name).map(String::as_str)
    }
}

impl Context {
    pub(crate) fn new(
        run: Arc<RunContext>,
        build: Arc<BuildInfo>,
        component: &str,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            build,
            run,
            facts: Arc::default(),
            post_processor: None,
            component: component.into(),
            role: Role::Builder,
            record: Arc::default(),
            stop,
            deadline: None,
        }))
    }

    fn changed(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = (*self.0).clone();
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// The same for another component, which owns what it makes from here on.
    pub(crate) fn for_component(&self, role: Role, component: &str) -> Self {
        self.changed(|inner| {
            inner.component = component.into();
            inner.role = role;
        })
    }

    /// The same with the facts of a machine.
    pub(crate) fn with_facts(&self, facts: Facts) -> Self {
        self.changed(|inner| inner.facts = Arc::new(facts))
    }

    /// The same with output that says which post-processor it comes from.
    pub(crate) fn for_post_processor(&self, kind: &str) -> Self {
        self.changed(|inner| {
            inner.post_processor = Some(kind.into());
            inner.component = kind.into();
            inner.role = Role::PostProcessor;
        })
    }

    /// The same for work that is dropped after some time, so that what it was at can say why.
    pub(crate) fn within(&self, limit: Duration) -> Self {
        self.changed(|inner| inner.deadline = tokio::time::Instant::now().checked_add(limit))
    }

    /// The same in another cancellation scope.
    pub(crate) fn in_scope(&self, stop: CancellationToken) -> Self {
        self.changed(|inner| inner.stop = stop)
    }

    /// The scope for cleanup: not ended by *stop working*.
    pub(crate) fn for_cleanup(&self) -> Self {
        self.in_scope(self.0.run.abandon.clone())
    }

    pub(crate) fn run(&self) -> &Arc<RunContext> {
        &self.0.run
    }

    /// The ports of this computer that builds of the run have.
    pub(crate) fn ports(&self) -> std::sync::MutexGuard<'_, BTreeSet<u16>> {
        self.0.run.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value that all builds of the run share, made when it is first asked for: what one has found out, the others need not.
    /// It is one for each type, so give it a type of your own.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # let bench = packer_core::testing::Bench::new();
    /// # let cx = bench.context();
    /// use std::sync::OnceLock;
    /// #[derive(Default)]
    /// struct Version(OnceLock<String>);
    ///
    /// let version = cx.of_run::<Version>();
    /// assert_eq!(version.0.get_or_init(|| "7.2".into()), "7.2");
    /// assert_eq!(cx.of_run::<Version>().0.get().map(String::as_str), Some("7.2"));
    /// # }
    /// ```
    pub fn of_run<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut shared = self.0.run.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let value = shared.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default())).clone();
        // It was put there under this very type.
        value.downcast().unwrap_or_default()
    }

    pub(crate) fn record_of_build(&self) -> &Arc<BuildRecord> {
        &self.0.record
    }

    /// The build this is about.
    pub fn build(&self) -> &BuildInfo {
        &self.0.build
    }

    /// What is known about the machine: for provisioners the machine's facts, for post-processors what the artifact's
    /// builder left.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Names the run: `PACKER_RUN_UUID`.
    pub fn run_id(&self) -> &str {
        &self.0.run.run_id
    }

    /// When the run began.
    pub fn started(&self) -> jiff::Timestamp {
        self.0.run.started
    }

    /// Tells an event of this build.
    pub fn emit(&self, kind: EventKind) {
        let build = (!self.0.build.display_name.is_empty()).then(|| self.0.build.display_name.clone());
        self.0.run.events.emit(build, self.0.post_processor.clone(), kind);
    }

    /// Shows a text to people.
    pub fn say(&self, text: impl Into<String>) {
        self.emit(EventKind::Say { level: Level::Info, text: text.into() });
    }

    /// Shows a text about a failure to people.
    pub fn say_error(&self, text: impl Into<String>) {
        self.emit(EventKind::Say { level: Level::Error, text: text.into() });
    }

    /// Shows a line that a command printed.
    pub fn output(&self, level: Level, line: impl Into<String>) {
        self.emit(EventKind::Output { level, line: line.into() });
    }

    /// Runs a named piece of work: timed, visible as events, ended by cancellation; with debugging on the run
    /// pauses behind it. Its end is told whatever happens, also where the future is dropped before it is done.
    pub async fn step<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = self.timed(name, work).await;
        if self.0.build.debug && result.is_ok() {
            self.pause(&format!("Pausing after run of step '{name}'. Press enter to continue. ")).await?;
        }
        result
    }

    /// A step without a pause behind it.
    pub(crate) async fn timed<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let step = self.0.run.ids.fetch_add(1, Ordering::Relaxed);
        self.emit(EventKind::StepStarted { step, name: name.into() });
        let began = Instant::now();
        let work = self.until_cancelled(work);
        self.finishing(
            |error| {
                let elapsed = began.elapsed();
                self.0.record.add_step(StepTime {
                    name: name.into(),
                    began: began.duration_since(self.0.run.began),
                    elapsed,
                    error: error.clone(),
                });
                self.emit(EventKind::StepFinished { step, name: name.into(), elapsed, error });
            },
            name,
            work,
        )
        .await
    }

    /// Runs work that is a step and calls `tell` when it is over, exactly once, however it ends: also where the future is
    /// dropped, or the work panics.
    pub(crate) async fn finishing<T>(
        &self,
        tell: impl FnOnce(Option<ErrorInfo>),
        step: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut ending = Ending { cx: self, step, tell: Some(tell) };
        let result = work.await.map_err(|error| match error.is_cancelled() {
            true => error.in_step(self.0.record.take_hung().unwrap_or_else(|| step.to_owned())),
            false => error.in_step(step),
        });
        if let Some(tell) = ending.tell.take() {
            tell(result.as_ref().err().map(ErrorInfo::from));
        }
        result
    }

    /// Runs `work` until it is done or the scope is cancelled, whichever comes first.
    pub async fn until_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.0.stop.cancelled() => Err(Error::cancelled()),
            result = work => result,
        }
    }

    /// Waits; ended early by cancellation, which is an error.
    pub async fn sleep(&self, duration: Duration) -> Result<()> {
        self.until_cancelled(async {
            tokio::time::sleep(duration).await;
            Ok(())
        })
        .await
    }

    /// Writes a resource into the ledger, then runs the work that creates it.
    ///
    /// The entry stays whether or not the work succeeds: a create call that failed or was cancelled may have
    /// created something all the same, and releasing what is not there is no error.
    pub async fn own<T>(&self, resource: Resource, create: impl Future<Output = Result<T>>) -> Result<T> {
        self.record(resource)?;
        self.until_cancelled(create).await
    }

    /// Writes a resource into the ledger, or what became known of it since.
    ///
    /// # Errors
    /// Where it cannot be written; where the engine knows the [registry](crate::Engine::registry) of later processes and one
    /// of those could not make the component that releases it.
    pub fn record(&self, mut resource: Resource) -> Result<()> {
        if resource.is_path() {
            // A later process may have another working folder.
            if let Ok(path) = std::path::absolute(&resource.name) {
                resource.name = path.to_string_lossy().into_owned();
            }
        } else if !resource.is_process() {
            resource.component = self.0.component.to_string();
            resource.role = self.0.role;
            if let Some(Recoverable(complete)) = &self.0.run.recoverable {
                complete(&mut resource, &|| self.0.record.config_of(self.0.role), &self.0.run.secrets)?;
            }
        }
        if resource.is_in_machine() {
            let held = self.0.record.owned.outstanding();
            // A machine may be a program beside this one.
            let machine = held.iter().filter(|r| r.role == Role::Builder && !r.is_path());
            resource.machine = Some(machine.map(|r| r.id).collect());
        }
        resource.build = self.0.build.display_name.to_string();
        self.0.run.ledger.record(&resource)?;
        self.0.record.owned.record(&resource)?;
        self.emit(EventKind::ResourceOwned { resource });
        Ok(())
    }

    /// Strikes a resource out of the ledger that the component has destroyed itself.
    pub fn released(&self, resource: &Resource) -> Result<()> {
        self.0.run.ledger.released(resource.id)?;
        self.0.record.owned.released(resource.id)?;
        self.emit(EventKind::ResourceReleased { resource: resource.clone() });
        Ok(())
    }

    /// Whether the work should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Returns when the work should stop.
    pub async fn cancelled(&self) {
        self.0.stop.cancelled().await;
    }

    /// The scope's token, for code that passes it on.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Starts telling the progress of long work.
    pub fn progress(&self, title: impl Into<String>, total: Option<u64>) -> Progress {
        let id = self.0.run.ids.fetch_add(1, Ordering::Relaxed);
        Progress { cx: self.clone(), id, title: title.into(), total, done: 0, told: None }
    }

    /// A new folder for temporary files, removed with the build.
    pub fn temp_dir(&self) -> Result<PathBuf> {
        let path = self.0.run.host.temp_dir.join(format!("packer-{}", uuid::Uuid::new_v4()));
        self.record(Resource::directory(&path))?;
        std::fs::create_dir_all(&path).map_err(|e| Error::io("mkdir", &path, e))?;
        Ok(path)
    }

    /// A new path for a temporary file of this prefix (`packer-shell`), in the ledger already and removed with the
    /// build. Nothing is created yet.
    pub fn temp_path(&self, prefix: &str) -> Result<(PathBuf, Resource)> {
        self.temp_path_with_suffix(prefix, "")
    }

    /// The same with a suffix (`.cmd`) behind the random part of the name.
    pub fn temp_path_with_suffix(&self, prefix: &str, suffix: &str) -> Result<(PathBuf, Resource)> {
        let number = uuid::Uuid::new_v4().as_u128() as u64;
        let path = self.0.run.host.temp_dir.join(format!("{prefix}{number}{suffix}"));
        let resource = Resource::file(&path);
        self.record(resource.clone())?;
        Ok((path, resource))
    }

    /// Whether the engine may ask for the [state](crate::Machine::checkpoint) of the build's machine: it has a cache. For
    /// builders whose machines have to be started in another way for that.
    pub fn saves_states(&self) -> bool {
        self.0.run.saves_states
    }

    /// Where downloads and the like stay between runs.
    pub fn cache_dir(&self) -> &Path {
        &self.0.run.host.cache_dir
    }

    /// What the host lends.
    pub fn host(&self) -> &Host {
        &self.0.run.host
    }

    /// A variable that the host lends.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.0.run.host.env.get(name).map(String::as_str)
    }

    /// All variables that the host lends.
    pub fn envs(&self) -> &BTreeMap<String, String> {
        &self.0.run.host.env
    }

    /// Asks whoever sits before the host.
    ///
    /// # Errors
    /// Where nobody can be asked, or the work is cancelled meanwhile.
    pub async fn ask(&self, question: &str) -> Result<String> {
        self.emit(EventKind::Asked { question: question.into() });
        let question = self.secrets().scrub_prose(question);
        self.until_cancelled(self.0.run.host.prompt.ask(&question)).await
    }

    /// Asks for something secret that is checked at once, such as a passphrase; at most three times. The answer is registered
    /// as a secret, and asked for once in a run: whoever asks the same question later gets the answer that was right.
    ///
    /// # Errors
    /// What the last check said, and as for [`ask`](Self::ask).
    pub async fn ask_secret<T: Send + 'static>(
        &self,
        question: &str,
        check: impl Fn(&str) -> std::result::Result<T, String> + Clone + Send + 'static,
    ) -> Result<T> {
        const MOST: usize = 3;
        // Two builds with the same question ask it once.
        let mut answers = self.until_cancelled(async { Ok(self.0.run.answers.lock().await) }).await?;
        let checked = |answer: Secret| {
            let check = check.clone();
            let work = tokio::task::spawn_blocking(move || check(answer.reveal()));
            async { work.await.map_err(|e| Error::internal(format!("checking an answer: {e}"))) }
        };
        if let Some(known) = answers.get(question)
            && let Ok(right) = checked(known.clone()).await?
        {
            return Ok(right);
        }
        let mut wrong = String::new();
        for _ in 0..MOST {
            let again = if wrong.is_empty() { question.to_owned() } else { format!("{wrong}\n{question}") };
            let answer = self.ask_hidden(&again).await?;
            match checked(answer.clone()).await? {
                Ok(right) => {
                    answers.insert(question.to_owned(), answer);
                    return Ok(right);
                }
                Err(why) => wrong = why,
            }
        }
        Err(Error::user(wrong))
    }

    /// Asks for something secret that nobody can check here, such as the answer to a server's question; each time anew.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub async fn ask_hidden(&self, question: &str) -> Result<Secret> {
        self.emit(EventKind::Asked { question: question.into() });
        let question = self.secrets().scrub_prose(question);
        let answer = self.until_cancelled(self.0.run.host.prompt.ask_secret(&question)).await?;
        self.secrets().add(&answer);
        Ok(Secret::new(answer))
    }

    /// Asks for a key press; where nobody can be asked the work goes on.
    pub async fn pause(&self, question: &str) -> Result<()> {
        match self.ask(question).await {
            Err(e) if e.is_cancelled() => Err(e),
            _ => Ok(()),
        }
    }

    /// The secrets of the run: what is added here is scrubbed from every event and error.
    pub fn secrets(&self) -> &Secrets {
        &self.0.run.secrets
    }

    /// The clock of the run.
    pub fn clock(&self) -> &Clock {
        &self.0.run.clock
    }
}

/// Tells the end of work that is dropped before it is done.
struct Ending<'a, F: FnOnce(Option<ErrorInfo>)> {
    cx: &'a Context,
    step: &'a str,
    tell: Option<F>,
}

impl<F: FnOnce(Option<ErrorInfo>)> Drop for Ending<'_, F> {
    fn drop(&mut self) {
        let Some(tell) = self.tell.take() else { return };
        let inner = &self.cx.0;
        let error = if std::thread::panicking() {
            Error::internal("it panicked")
        } else if inner.stop.is_cancelled() {
            inner.record.hung_in(self.step);
            Error::new(Fault::Cancelled, "cancelled")
        } else if inner.deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
            inner.record.hung_in(self.step);
            Error::new(Fault::Guest, "timed out").retryable()
        } else {
            // A limit of the component's own, or a race that something else won.
            Error::new(Fault::Cancelled, "given up before it was done")
        };
        tell(Some(ErrorInfo::from(&error.in_step(self.step))));
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.0.build.display_name)
    }
}

/// The progress of one piece of long work; told at most ten times a second. Dropping it ends it.
#[derive(Debug)]
pub struct Progress {
    cx: Context,
    id: u64,
    title: String,
    total: Option<u64>,
    done: u64,
    told: Option<Instant>,
}

impl Progress {
    /// Counts more of the work as done.
    pub fn advance(&mut self, more: u64) {
        self.done += more;
        if self.told.is_none_or(|told| told.elapsed() >= Duration::from_millis(100)) {
            self.told = Some(Instant::now());
            self.tell(false);
        }
    }

    /// Says how much of the work is done.
    pub fn set(&mut self, done: u64) {
        self.advance(done.saturating_sub(self.done));
    }

    fn tell(&self, finished: bool) {
        self.cx.emit(EventKind::Progress {
            id: self.id,
            title: self.title.clone(),
            done: self.done,
            total: self.total,
            finished,
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.tell(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(variables: &[(&str, &str)]) -> Host {
        Host::from_env(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[cfg(unix)]
    #[test]
    fn folders_are_where_packer_has_them() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(home.path().join(name));
        let own = ("HOME", home.path().to_str().unwrap());
        let config = |more: &[(&str, &str)]| host(&[&[own], more].concat()).config_dir();
        assert_eq!(config(&[]), at(".config/packer"));
        assert_eq!(config(&[("XDG_CONFIG_HOME", "/x"), ("PACKER_CONFIG_DIR", "")]), Some("/x/packer".into()));
        assert_eq!(
            config(&[("PACKER_CONFIG_DIR", "/p"), ("XDG_CONFIG_HOME", "/x")]),
            Some("/p/.packer.d".into())
        );
        assert_eq!(host(&[("XDG_CONFIG_HOME", "/x")]).config_dir(), None);
        // Asking makes nothing, and what is there is taken.
        assert!(!home.path().join(".packer.d").exists() && !home.path().join(".config").exists());
        std::fs::create_dir(home.path().join(".packer.d")).unwrap();
        assert_eq!(config(&[("XDG_CONFIG_HOME", "/x")]), at(".packer.d"));
        let cache = |more: &[(&str, &str)]| host(&[&[own], more].concat()).cache_dir;
        assert_eq!(Some(cache(&[])), at(".cache/packer"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/packer"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("PACKER_CACHE_DIR", "/c")]), PathBuf::from("/c"));
        assert_eq!(host(&[("TMPDIR", "/t")]).temp_dir, PathBuf::from("/t"));
        assert_eq!(host(&[("TMPDIR", "")]).temp_dir, PathBuf::from("/tmp"));
    }
}

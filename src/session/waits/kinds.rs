//! The ways a thread waits, and the methods of the core library by which it does.

/// How a thread waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// To enter a monitor.
    Monitor,
    /// In `Monitor.Wait`, for a pulse.
    MonitorWait,
    /// To enter a `System.Threading.Lock`.
    Lock,
    /// For a condition of a `Lock` that is no monitor.
    Condition,
    /// For a wait handle of a class that has no name of its own here.
    WaitHandle,
    /// For a mutex.
    Mutex,
    /// For an event that stays set.
    ManualResetEvent,
    /// For an event that lets one thread pass.
    AutoResetEvent,
    /// For a semaphore of the operating system.
    Semaphore,
    /// For one of several wait handles.
    WaitAny,
    /// For all of several wait handles.
    WaitAll,
    /// For a `SemaphoreSlim`.
    SemaphoreSlim,
    /// For a `ManualResetEventSlim`.
    ManualResetEventSlim,
    /// For a `CountdownEvent`.
    CountdownEvent,
    /// For the others of a `Barrier`.
    Barrier,
    /// To enter a `ReaderWriterLockSlim`.
    ReaderWriterLockSlim,
    /// To enter a `ReaderWriterLock`.
    ReaderWriterLock,
    /// For the end of a thread.
    Join,
    /// For a task, or for tasks.
    Task,
    /// For the initializer of a class that runs on another thread.
    TypeInitializer,
    /// For time to pass.
    Sleep,
    /// For work: a thread of the runtime or of its thread pool.
    Idle,
}

impl Kind {
    /// The name of the class or method: `Monitor`, `MonitorWait`, `WaitAny`, ...
    pub fn name(self) -> &'static str {
        match self {
            Kind::Monitor => "Monitor",
            Kind::MonitorWait => "MonitorWait",
            Kind::Lock => "Lock",
            Kind::Condition => "Condition",
            Kind::WaitHandle => "WaitHandle",
            Kind::Mutex => "Mutex",
            Kind::ManualResetEvent => "ManualResetEvent",
            Kind::AutoResetEvent => "AutoResetEvent",
            Kind::Semaphore => "Semaphore",
            Kind::WaitAny => "WaitAny",
            Kind::WaitAll => "WaitAll",
            Kind::SemaphoreSlim => "SemaphoreSlim",
            Kind::ManualResetEventSlim => "ManualResetEventSlim",
            Kind::CountdownEvent => "CountdownEvent",
            Kind::Barrier => "Barrier",
            Kind::ReaderWriterLockSlim => "ReaderWriterLockSlim",
            Kind::ReaderWriterLock => "ReaderWriterLock",
            Kind::Join => "Join",
            Kind::Task => "Task",
            Kind::TypeInitializer => "TypeInitializer",
            Kind::Sleep => "Sleep",
            Kind::Idle => "Idle",
        }
    }

    /// Whether somebody has to do something before the thread goes on: not where it only waits for time or work.
    pub fn is_wait(self) -> bool {
        !matches!(self, Kind::Sleep | Kind::Idle)
    }

    /// Class of the object waited for, where frames name it by an argument.
    pub fn class(self) -> Option<&'static str> {
        Some(match self {
            Kind::SemaphoreSlim => "System.Threading.SemaphoreSlim",
            Kind::ManualResetEventSlim => "System.Threading.ManualResetEventSlim",
            Kind::CountdownEvent => "System.Threading.CountdownEvent",
            Kind::Barrier => "System.Threading.Barrier",
            Kind::ReaderWriterLockSlim => "System.Threading.ReaderWriterLockSlim",
            Kind::ReaderWriterLock => "System.Threading.ReaderWriterLock",
            Kind::Join => "System.Threading.Thread",
            Kind::Task => "System.Threading.Tasks.Task",
            _ => return None,
        })
    }

    /// The kind of a wait handle by the classes of the object, the nearest first.
    pub fn of_handle<'a>(classes: impl Iterator<Item = &'a str>) -> Kind {
        let known = |c: &str| match c {
            "System.Threading.Mutex" => Some(Kind::Mutex),
            "System.Threading.Semaphore" => Some(Kind::Semaphore),
            "System.Threading.ManualResetEvent" => Some(Kind::ManualResetEvent),
            "System.Threading.AutoResetEvent" => Some(Kind::AutoResetEvent),
            _ => None,
        };
        classes.filter_map(known).next().unwrap_or(Kind::WaitHandle)
    }
}

/// Class, how its method's names begin, what a thread does in it. Names of dotnet/runtime v3.1, v8.0 and v11.0,
/// `System.Private.CoreLib/src/System/Threading/`, `System.Threading/src` (`Barrier`).
const OPERATIONS: &[(&str, &[&str], Kind)] = &[
    ("System.Threading.Monitor", &["Enter", "TryEnter", "ReliableEnter"], Kind::Monitor),
    ("System.Threading.Monitor", &["Wait", "ObjWait"], Kind::MonitorWait),
    ("System.Threading.Lock", &["Enter", "TryEnter"], Kind::Lock),
    ("System.Threading.Condition", &["Wait"], Kind::Condition),
    ("System.Threading.WaitHandle", &["WaitOne", "InternalWaitOne", "SignalAndWait"], Kind::WaitHandle),
    ("System.Threading.WaitHandle", &["WaitAll"], Kind::WaitAll),
    ("System.Threading.WaitHandle", &["WaitAny", "WaitMultiple"], Kind::WaitAny),
    ("System.Threading.SemaphoreSlim", &["Wait"], Kind::SemaphoreSlim),
    ("System.Threading.ManualResetEventSlim", &["Wait"], Kind::ManualResetEventSlim),
    ("System.Threading.CountdownEvent", &["Wait"], Kind::CountdownEvent),
    ("System.Threading.Barrier", &["SignalAndWait", "DiscontinuousWait"], Kind::Barrier),
    ("System.Threading.ReaderWriterLockSlim", &["Enter", "TryEnter", "WaitOnEvent"], Kind::ReaderWriterLockSlim),
    (
        "System.Threading.ReaderWriterLock",
        &["AcquireReaderLock", "AcquireWriterLock", "UpgradeToWriterLock"],
        Kind::ReaderWriterLock,
    ),
    ("System.Threading.Thread", &["Join"], Kind::Join),
    ("System.Threading.Thread", &["Sleep"], Kind::Sleep),
    (
        "System.Threading.Tasks.Task",
        &["Wait", "InternalWait", "SpinThenBlockingWait", "GetResult", "get_Result"],
        Kind::Task,
    ),
    ("System.Runtime.CompilerServices.TaskAwaiter", &["GetResult", "HandleNonSuccess", "ValidateEnd"], Kind::Task),
    ("System.Runtime.CompilerServices.ConfiguredTaskAwaitable+ConfiguredTaskAwaiter", &["GetResult"], Kind::Task),
    ("System.Runtime.CompilerServices.ValueTaskAwaiter", &["GetResult"], Kind::Task),
    ("System.Threading.Tasks.ValueTask", &["get_Result", "ThrowIfCompletedUnsuccessfully"], Kind::Task),
    ("System.Runtime.CompilerServices.AsyncHelpers", &["HandleAsyncEntryPoint"], Kind::Task),
    ("System.Runtime.CompilerServices.InitHelpers", &["InitClass", "InitInstantiatedClass"], Kind::TypeInitializer),
    ("System.Runtime.CompilerServices.StaticsHelpers", &["Get", "AccessTLS"], Kind::TypeInitializer),
    ("System.Runtime.CompilerServices.RuntimeHelpers", &["RunClassConstructor"], Kind::TypeInitializer),
    ("System.Threading.LowLevelLifoSemaphore", &["Wait"], Kind::Idle),
    ("System.Threading.PortableThreadPool+WorkerThread", &["WorkerThreadStart"], Kind::Idle),
    ("System.Threading.PortableThreadPool+GateThread", &[""], Kind::Idle),
    ("System.Threading.PortableThreadPool+WaitThread", &["WaitThreadStart"], Kind::Idle),
    ("System.Threading.PortableThreadPool+IOCompletionPoller", &[""], Kind::Idle),
    ("System.Threading.TimerQueue", &["TimerThread"], Kind::Idle),
];

/// Beginnings of the names of classes that stand below an operation: what it calls to block.
const BELOW: &[&str] = &[
    "Interop+",
    "System.Threading.WaitSubsystem",
    "System.Threading.NamedMutex",
    "System.Threading.WaitHandle",
    "System.Threading.LowLevel",
    "System.Threading.SynchronizationContext",
    "System.Threading.Win32ThreadPoolNative",
    "System.Runtime.CompilerServices.InitHelpers",
];

/// What a method is to a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One by which threads wait.
    Operation(Kind),
    /// One that operations call.
    Below,
    /// Any other.
    Other,
}

/// The role of the method with this full name, as frames print it.
pub fn role(name: &str) -> Role {
    let Some((class, method)) = split(name) else { return Role::Other };
    for (of, methods, kind) in OPERATIONS {
        if class == *of && methods.iter().any(|m| method.starts_with(m)) {
            return Role::Operation(*kind);
        }
    }
    if BELOW.iter().any(|b| class.starts_with(b)) { Role::Below } else { Role::Other }
}

/// Class and method of ``Namespace.Class`1[[arguments]].Method[[arguments]](parameters)``, both without arguments and their
/// number.
pub fn split(name: &str) -> Option<(String, String)> {
    let (mut plain, mut depth, mut number) = (String::with_capacity(name.len()), 0u32, false);
    for c in name.chars() {
        number = c == '`' || number && c.is_ascii_digit();
        match c {
            _ if number => {}
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '(' if depth == 0 => break,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let (class, method) = plain.rsplit_once('.')?;
    // Constructors have a dot of their own.
    Some((class.trim_end_matches('.').to_owned(), method.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Kind, Role, role, split};

    #[test]
    fn methods_are_known_by_their_class() {
        let task = "System.Threading.Tasks.Task`1[[System.Int32, System.Private.CoreLib]].GetResultCore(Boolean)";
        assert_eq!(role(task), Role::Operation(Kind::Task));
        assert_eq!(role("System.Threading.Monitor.Enter_Slowpath(System.Object)"), Role::Operation(Kind::Monitor));
        assert_eq!(role("My.Monitor.Enter(System.Object)"), Role::Other);
        assert_eq!(role("System.Threading.Tasks.Task.InnerInvoke()"), Role::Other);
        assert_eq!(role("Interop+Sys.LowLevelCrossProcessMutex_Acquire(Void*, Int32)"), Role::Below);
        assert_eq!(role("Zoo..cctor()"), Role::Other);
        assert_eq!(split("A.B`1+C[[X.Y]]..ctor(Int32)"), Some(("A.B+C".into(), "ctor".into())));
    }
}

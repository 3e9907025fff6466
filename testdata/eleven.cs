// A program of .NET 11 with one of everything that 11 does its own way: suspended methods of runtime-async, monitors and
// locks, delegates. It writes what it knows of itself, a fact a line, then waits to be dumped.
// Compile: csc eleven.dll eleven.cs /features:runtime-async=on /langversion:preview /unsafe /debug:portable
// Run: dotnet exec --fx-version 11.0.0 eleven.dll FACTS; dump: createdump -h -f OUT PID
using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;

namespace Eleven
{
    public sealed class Order
    {
        public int Id;
        public string Name;
        public int Plus(int x) => Id + x;
        public override string ToString() => Name;
    }

    public struct Spot { public int X; public long Y; public Order Of; }

    public static class Extensions
    {
        public static int Times(this Order o, int n) => o.Id * n;
    }

    public sealed class Repository<T>
    {
        public T Last;
        public async ValueTask<T> Load(T key) { T copy = key; await Gate(); return Last = copy; }
        async Task Gate() { await Program.Semaphore.WaitAsync(); GC.KeepAlive(this); }
    }

    public struct NeverDone { public NeverAwaiter GetAwaiter() => default; }

    public struct NeverAwaiter : ICriticalNotifyCompletion
    {
        public bool IsCompleted => false;
        public void GetResult() { }
        public void OnCompleted(Action a) => Keep(a);
        public void UnsafeOnCompleted(Action a) => Keep(a);
        static void Keep(Action a) { lock (Program.Kept) Program.Kept.Add(a); Program.Note("action.custom", a); }
    }

    public static class Program
    {
        public static readonly List<object> Kept = new();
        static readonly Dictionary<string, object> Objects = new();
        static readonly List<string> Facts = new();
        public static readonly SemaphoreSlim Semaphore = new(0);
        static readonly TaskCompletionSource<int> Source = new(TaskCreationOptions.RunContinuationsAsynchronously);
        static readonly Channel<string> Messages = Channel.CreateUnbounded<string>();
        static readonly ManualResetEventSlim Forever = new(false);
        static readonly object Thin = new(), Thrice = new(), Fat = new(), Pulsed = new(), Left = new(), Right = new();
        static readonly Lock Free = new();
        [ThreadStatic] static Order t_current;

        public static void Note(string name, object o) { lock (Objects) Objects[name] = o; }

        // A delay, three methods deep, with locals of several kinds.
        static async Task<string> Wait(int n) { var order = new Order { Id = n, Name = "wait-" + n }; Note("order.wait" + n, order); long s = await WaitMiddle(n * 10); return order.Name + s; }
        static async Task<long> WaitMiddle(int n) { long big = 0x1122334455667700 + n; await WaitInner(n + 1); return big; }
        static async Task WaitInner(int n) { var buffer = new byte[77]; Note("buffer.wait" + n, buffer); double half = 0.5 * n; await Task.Delay(3_600_000); GC.KeepAlive(buffer); if (half < 0) throw new Exception(); }

        // A task of someone else, a struct and an exception's slot.
        static async Task<int> Buy(string who) { try { return await BuyInner(who, 7) + 1; } catch (InvalidOperationException e) { return e.Message.Length; } }
        static async Task<int> BuyInner(string who, int k) { var spot = new Spot { X = k, Y = 0x0badf00d, Of = new Order { Id = k, Name = "bought" } }; Note("order.buy", spot.Of); int v = await Source.Task; return v + spot.X + spot.Of.Id + who.Length; }

        static async Task<string> LoadOne(Repository<string> r) => await r.Load("key");
        static async Task<int> ReadAll() { int total = 0; for (int i = 0; i < 3; i++) { string s = await ReadOne().ConfigureAwait(false); total += s.Length; } return total; }
        static async ValueTask<string> ReadOne() => await Messages.Reader.ReadAsync();
        static async Task Both() { var a = WaitInner(91); var b = Buy("both"); await Task.WhenAll(a, b); }

        // A state machine (async void keeps one) above a method that has none.
        static async void Machine() { await Custom("machine"); }
        static async Task Custom(string s) { var order = new Order { Id = 5, Name = s }; Note("order.custom", order); await Task.Yield(); await new NeverDone(); GC.KeepAlive(order); }
        // A method without one above a state machine (async iterators keep one).
        static async Task Drain() { await foreach (int i in Numbers()) GC.KeepAlive(i); }
        static async IAsyncEnumerable<int> Numbers() { yield return 1; await Source.Task; yield return 2; }

        static async Task Run() { await RunInner("running"); }
        static async Task RunInner(string s) { await Task.Delay(10); Note("string.running", s); Forever.Wait(); GC.KeepAlive(s); }

        static void Start(string name, Action<string> body)
        {
            var thread = new Thread(() => { t_current = new Order { Id = Environment.CurrentManagedThreadId, Name = name }; lock (Facts) Facts.Add($"thread:{name}\t{Environment.CurrentManagedThreadId}"); body(name); }) { IsBackground = true, Name = name };
            thread.Start();
            Thread.Sleep(120);
        }

        static void Sleep() => Thread.Sleep(Timeout.Infinite);

        static void Locks()
        {
            Start("thin", _ => { lock (Thin) lock (Thrice) lock (Thrice) lock (Thrice) Sleep(); });
            Start("fat", _ => { lock (Fat) lock (Fat) Sleep(); });
            Start("fatWaiter1", _ => { lock (Fat) Sleep(); });
            Start("fatWaiter2", _ => { lock (Fat) Sleep(); });
            Start("pulsed", _ => { lock (Pulsed) Monitor.Wait(Pulsed); });
            Start("free", _ => { lock (Free) lock (Free) Sleep(); });
            Start("freeWaiter", _ => { lock (Free) Sleep(); });
            Start("leftRight", _ => { lock (Left) { Thread.Sleep(300); lock (Right) Sleep(); } });
            Start("rightLeft", _ => { lock (Right) { Thread.Sleep(300); lock (Left) Sleep(); } });
            Start("thrower", _ => { try { throw new InvalidOperationException("outer in flight"); } catch { try { throw new FormatException("inner in flight"); } catch { Sleep(); } } });
            foreach (var (name, o) in new (string, object)[] { ("thin", Thin), ("thrice", Thrice), ("fat", Fat), ("pulsed", Pulsed), ("free", Free), ("left", Left), ("right", Right) }) Note("lock." + name, o);
        }

        static int Static(int x) => x + 1;

        static void Delegates()
        {
            var order = new Order { Id = 3, Name = "delegates" };
            Func<int, int> closed = order.Plus, open = Static, extension = order.Times;
            var virt = (Func<Order, string>)Delegate.CreateDelegate(typeof(Func<Order, string>), typeof(object).GetMethod("ToString"));
            Func<int, int> many = closed + open + extension;
            var method = new DynamicMethod("Made", typeof(int), new[] { typeof(int) });
            var il = method.GetILGenerator();
            il.Emit(OpCodes.Ldarg_0);
            il.Emit(OpCodes.Ret);
            var dynamic = (Func<int, int>)method.CreateDelegate(typeof(Func<int, int>));
            var native = Marshal.GetDelegateForFunctionPointer<Native>(NativeLibrary.GetExport(NativeLibrary.Load("libc.so.6"), "abs"));
            GC.KeepAlive(closed(1) + open(1) + extension(1) + many(1) + dynamic(1) + native(-1));
            GC.KeepAlive(virt(order));
            foreach (var (name, d) in new (string, Delegate)[] { ("closed", closed), ("open", open), ("extension", extension), ("virtual", virt), ("many", many), ("dynamic", dynamic), ("native", native) }) Note("delegate." + name, d);
            Note("order.delegates", order);
        }

        delegate int Native(int x);

        static unsafe string Address(object o) => ((nint)(*(void**)&o)).ToString("x");

        static void Main(string[] args)
        {
            var tasks = new (string, object)[] { ("wait1", Wait(1)), ("wait2", Wait(2)), ("buy", Buy("who")), ("load", LoadOne(new Repository<string> { Last = "none" })), ("read", ReadAll()), ("both", Both()), ("drain", Drain()), ("run", Run()) };
            Machine();
            Locks();
            Delegates();
            Thread.Sleep(1000);
            for (int i = 0; i < 3; i++) { GC.Collect(); GC.WaitForPendingFinalizers(); }
            using (var w = new StreamWriter(args[0]))
            {
                foreach (var (name, t) in tasks) w.WriteLine($"task:{name}\t{Address(t)}");
                lock (Objects) foreach (var (name, o) in Objects) w.WriteLine($"object:{name}\t{Address(o)}");
                lock (Facts) foreach (var f in Facts) w.WriteLine(f);
                w.WriteLine($"pid\t{Environment.ProcessId}");
                w.WriteLine("READY\t1");
            }
            Thread.Sleep(Timeout.Infinite);
            GC.KeepAlive(tasks);
        }
    }
}

// A process that holds as many of one kind of thing as it is told, to be dumped at several scales.
// usage: Scale KIND COUNT FACTS    (it writes "pid" and then READY into the file FACTS, and waits)
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using System.Threading;
using System.Threading.Tasks;

namespace Scale
{
    public class Node { public Node Next; public object Value; public int Number; }
    public class Session { public string User; public byte[] Buffer = new byte[32]; public Dictionary<string, object> Bag; }
    public class Finalizable { public int Number; ~Finalizable() { Program.Finalized++; Program.Gate.WaitOne(); } }
    public class Generic<T> { public static object Made = new object(); public static int Count = 1; public T Value; [ThreadStatic] public static object OfThread; }
    public class Special : Exception { public Special(string text, Exception inner) : base(text, inner) { } }
    public struct Pair { public int Number; public object Key; public object Value; }
    public class Source { public event EventHandler Changed; public void Raise() => Changed?.Invoke(this, EventArgs.Empty); }
    public class Listener { public void On(object sender, EventArgs e) { } }

    public static class Program
    {
        public static int Finalized;
        public static readonly ManualResetEvent Gate = new ManualResetEvent(false);
        static readonly List<object> Keep = new List<object>();
        static readonly object Lock = new object();
        static readonly TaskCompletionSource<int> Never = new TaskCompletionSource<int>();

        static int Main(string[] args)
        {
            string kind = args[0]; int n = int.Parse(args[1]);
            Keep.Add(1); Keep.Add(new Node[10]); Keep.Add(new string[] { "one" });
            Kinds[kind](n);
            // All in generation 2: what is young must not depend on chance.
            GC.Collect(); GC.Collect();
            using (var facts = new StreamWriter(args[2]) { AutoFlush = true })
            {
                facts.Write("pid\t" + Environment.ProcessId + "\n");
                facts.Write("READY\t1\n");
            }
            Thread.Sleep(Timeout.Infinite);
            return 0;
        }

        static readonly Dictionary<string, Action<int>> Kinds = new Dictionary<string, Action<int>>
        {
            ["objects"] = Objects, ["types"] = Types, ["assemblies"] = Assemblies, ["contexts"] = Contexts, ["modules"] = Modules,
            ["threads"] = Threads, ["locks"] = Locks, ["tasks"] = Tasks, ["waiters"] = Waiters, ["chain"] = Chain, ["timers"] = Timers,
            ["handles"] = Handles, ["syncblocks"] = SyncBlocks, ["methods"] = Methods, ["finalizable"] = Finalizables,
            ["entries"] = Entries, ["collections"] = Collections, ["exceptions"] = Exceptions, ["nested"] = Nested,
            ["strings"] = Strings, ["delegates"] = Delegates, ["listeners"] = Listeners, ["pool"] = Pool, ["frames"] = Frames,
            ["tokens"] = Tokens, ["list"] = LinkedNodes, ["structs"] = Structs, ["large"] = Large, ["classes"] = Classes,
        };

        /// Objects of a few types that hold one another, a third of them garbage.
        static void Objects(int n)
        {
            var all = new Node[n];
            var random = new Random(1);
            for (int i = 0; i < n; i++)
            {
                var session = new Session { User = "user " + i };
                all[i] = new Node { Number = i, Value = i % 3 == 0 ? (object)session : new object[] { i, session }, Next = i == 0 ? null : all[random.Next(i)] };
                if (i % 3 == 0) { all[i / 2] = all[i]; }
            }
            Keep.Add(all);
        }

        /// Instantiations of generic types, each with statics.
        static void Types(int n)
        {
            Type at = typeof(object);
            var module = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Made.Types"), AssemblyBuilderAccess.Run).DefineDynamicModule("m");
            for (int i = 0; i < n; i++)
            {
                var made = module.DefineType("Made.Type" + i, TypeAttributes.Public).CreateType();
                var generic = typeof(Generic<>).MakeGenericType(made);
                RuntimeHelpers.RunClassConstructor(generic.TypeHandle);
                Keep.Add(Activator.CreateInstance(generic));
                Keep.Add(Array.CreateInstance(generic, 1));
                Keep.Add(Activator.CreateInstance(made));
            }
        }

        /// One type, of so many methods and fields; and one that so many others derive from in a row.
        static void Classes(int n)
        {
            var module = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Made.Classes"), AssemblyBuilderAccess.Run).DefineDynamicModule("m");
            var wide = module.DefineType("Made.Wide", TypeAttributes.Public);
            for (int i = 0; i < n; i++)
            {
                wide.DefineField("Field" + i, i % 2 == 0 ? typeof(object) : typeof(int), FieldAttributes.Public | (i % 3 == 0 ? FieldAttributes.Static : 0));
                var il = wide.DefineMethod("Method" + i, MethodAttributes.Public | MethodAttributes.Static, typeof(int), new[] { typeof(int) }).GetILGenerator();
                il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Ret);
            }
            var type = wide.CreateType();
            for (int i = 0; i < n; i += 8) { type.GetMethod("Method" + i).CreateDelegate<Func<int, int>>()(i); }
            Keep.Add(Activator.CreateInstance(type));
            Type parent = typeof(object);
            for (int i = 0; i < n / 16; i++) { parent = module.DefineType("Made.Deep" + i, TypeAttributes.Public, parent).CreateType(); }
            Keep.Add(Activator.CreateInstance(parent));
        }

        /// Assemblies made at run time that can be unloaded, each with a type, its statics and an object of it.
        static void Assemblies(int n)
        {
            for (int i = 0; i < n; i++)
            {
                var assembly = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Made.Assembly" + i), AssemblyBuilderAccess.RunAndCollect);
                var type = assembly.DefineDynamicModule("m").DefineType("Made.In" + i, TypeAttributes.Public);
                type.DefineField("Held", typeof(object), FieldAttributes.Public | FieldAttributes.Static);
                var il = type.DefineMethod("Run", MethodAttributes.Public | MethodAttributes.Static, typeof(int), new[] { typeof(int) }).GetILGenerator();
                il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Ldc_I4, i); il.Emit(OpCodes.Add); il.Emit(OpCodes.Ret);
                var made = type.CreateType();
                made.GetField("Held").SetValue(null, new Node { Number = i });
                made.GetMethod("Run").CreateDelegate<Func<int, int>>()(1);
                Keep.Add(Activator.CreateInstance(made));
            }
        }

        /// Load contexts that can be unloaded, each with a copy of this assembly.
        static void Contexts(int n)
        {
            var bytes = File.ReadAllBytes(typeof(Program).Assembly.Location);
            for (int i = 0; i < n; i++)
            {
                var context = new AssemblyLoadContext("context " + i, isCollectible: i % 4 != 0);
                var assembly = context.LoadFromStream(new MemoryStream(bytes));
                Keep.Add(Activator.CreateInstance(assembly.GetType("Scale.Node")));
                Keep.Add(context);
            }
        }

        /// Assemblies loaded from files.
        static void Modules(int n)
        {
            string folder = Path.Combine(Path.GetTempPath(), "scale-" + Environment.ProcessId);
            Directory.CreateDirectory(folder);
            for (int i = 0; i < n; i++)
            {
                string path = Path.Combine(folder, "Copy" + i + ".dll");
                File.Copy(typeof(Program).Assembly.Location, path);
                Keep.Add(Activator.CreateInstance(Assembly.LoadFile(path).GetType("Scale.Node")));
            }
            Directory.Delete(folder, true);
        }

        static Thread Start(Action run, int stack)
        {
            var started = new ManualResetEventSlim();
            var thread = new Thread(() => { started.Set(); run(); }, stack) { IsBackground = true };
            thread.Start();
            started.Wait();
            return thread;
        }

        /// Threads with a name, a static of their own and a lock each; every other one has ended.
        static void Threads(int n)
        {
            for (int i = 0; i < n; i++)
            {
                int number = i;
                var thread = Start(() =>
                {
                    Generic<int>.OfThread = new Node { Number = number };
                    var own = new object();
                    lock (own) { Gate.WaitOne(); }
                    GC.KeepAlive(own);
                }, 256 << 10);
                thread.Name = "thread " + i;
                Keep.Add(thread);
                var ended = new Thread(() => { }) { Name = "ended " + i };
                ended.Start(); ended.Join();
                Keep.Add(ended);
            }
        }

        /// Threads that wait for one another's monitors in a row.
        static void Locks(int n)
        {
            var locks = Enumerable.Range(0, n + 1).Select(_ => new object()).ToArray();
            var slims = Enumerable.Range(0, n + 1).Select(_ => new SemaphoreSlim(0)).ToArray();
            Keep.Add(locks); Keep.Add(slims);
            Monitor.Enter(locks[0]);
            for (int i = 0; i < n; i++)
            {
                int number = i;
                Start(() =>
                {
                    lock (locks[number + 1])
                    {
                        if (number % 2 == 0) { lock (locks[number / 2]) { } } else { slims[number].Wait(); }
                    }
                }, 256 << 10);
            }
            Thread.Sleep(500);
        }

        /// Tasks that wait to be started, with a continuation each, and one that waits for all of them.
        static void Tasks(int n)
        {
            var all = new Task[n];
            for (int i = 0; i < n; i++)
            {
                var source = new TaskCompletionSource<int>();
                Keep.Add(source);
                all[i] = source.Task.ContinueWith(t => t.Result + 1);
            }
            Keep.Add(Task.WhenAll(all)); Keep.Add(Task.WhenAny(all));
        }

        static async Task<int> Wait(Task<int> task, int number) { await Task.Yield(); int got = await task; return got + number; }
        static async Task Outer(Task<int> task, int number) { for (int i = 0; i < 10; i++) { number += await Wait(task, number); } }
        static async Task InTurn(SemaphoreSlim slim) { await slim.WaitAsync(); slim.Release(); }

        /// Async methods that wait: all for one task, each for its own, all for one semaphore.
        static void Waiters(int n)
        {
            var slim = new SemaphoreSlim(0);
            Keep.Add(slim);
            for (int i = 0; i < n; i++)
            {
                Keep.Add(Outer(Never.Task, i));
                Keep.Add(Outer(new TaskCompletionSource<int>().Task, i));
                Keep.Add(InTurn(slim));
            }
            Thread.Sleep(1000);
        }

        static async Task<int> Deep(int depth) { if (depth == 0) { return await Never.Task; } return await Deep(depth - 1) + 1; }

        /// Async methods that wait for one another in a row.
        static void Chain(int n)
        {
            var thread = new Thread(() => Keep.Add(Deep(n)), 1 << 30);
            thread.Start(); thread.Join();
        }

        static void Timers(int n)
        {
            for (int i = 0; i < n; i++)
            {
                int number = i;
                Keep.Add(new Timer(_ => { Keep.Add(number); }, new Node { Number = i }, TimeSpan.FromHours(1 + i % 40), TimeSpan.FromHours(1)));
                if (i % 2 == 0) { Keep.Add(Task.Delay(TimeSpan.FromHours(2))); }
            }
        }

        static void Handles(int n)
        {
            for (int i = 0; i < n; i++)
            {
                GCHandle.Alloc(new Node { Number = i });
                GCHandle.Alloc(new byte[16], GCHandleType.Pinned);
                var weak = new Session();
                GCHandle.Alloc(weak, GCHandleType.Weak);
                Keep.Add(weak);
                Keep.Add(new DependentHandle(weak, new Node()));
                Keep.Add(new WeakReference(weak));
            }
        }

        /// As many sync blocks in front of them were given back.
        static void SyncBlocks(int n)
        {
            var dropped = new object[n];
            for (int i = 0; i < n; i++)
            {
                dropped[i] = new object();
                RuntimeHelpers.GetHashCode(dropped[i]);
                lock (dropped[i]) { }
            }
            for (int i = 0; i < n; i++)
            {
                var o = new Node { Number = i };
                RuntimeHelpers.GetHashCode(o);
                Monitor.Enter(o);
                if (i % 2 == 0) { Monitor.Exit(o); }
                Keep.Add(o);
            }
            GC.KeepAlive(dropped);
        }

        static void Methods(int n)
        {
            for (int i = 0; i < n; i++)
            {
                var method = new DynamicMethod("Dynamic" + i, typeof(int), new[] { typeof(int) }, typeof(Program).Module);
                var il = method.GetILGenerator();
                il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Ldc_I4, i); il.Emit(OpCodes.Add); il.Emit(OpCodes.Ret);
                var made = method.CreateDelegate<Func<int, int>>();
                made(i);
                Keep.Add(made);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Drop(int n) { for (int i = 0; i < n; i++) { new Finalizable { Number = i }; } }

        static void Finalizables(int n)
        {
            Drop(n);
            GC.Collect();
            for (int i = 0; i < n; i++) { Keep.Add(new Finalizable { Number = i }); }
        }

        /// One collection of each kind, of so many entries.
        static void Entries(int n)
        {
            Keep.Add(Enumerable.Range(0, n).ToDictionary(i => "key " + i, i => new Node { Number = i }));
            Keep.Add(Enumerable.Range(0, n).ToHashSet());
            Keep.Add(new LinkedList<int>(Enumerable.Range(0, n)));
            Keep.Add(new Queue<int>(Enumerable.Range(0, n)));
            Keep.Add(new ConcurrentQueue<object>(Enumerable.Range(0, n).Cast<object>()));
            Keep.Add(new ConcurrentDictionary<int, Session>(Enumerable.Range(0, n).Select(i => KeyValuePair.Create(i, new Session()))));
            Keep.Add(new SortedDictionary<int, object>(Enumerable.Range(0, n).ToDictionary(i => i, i => (object)i)));
            Keep.Add(new ConcurrentStack<int>(Enumerable.Range(0, n)));
            Keep.Add(ImmutableDictionary.CreateRange(Enumerable.Range(0, n).Select(i => KeyValuePair.Create(i, i))));
            Keep.Add(ImmutableList.CreateRange(Enumerable.Range(0, n)));
            var table = new ConditionalWeakTable<object, object>();
            foreach (object key in Keep.ToArray()) { table.Add(key, new Node()); }
            for (int i = 0; i < n; i++) { object key = new Node { Number = i }; Keep.Add(key); table.Add(key, new Session()); }
            Keep.Add(table);
        }

        /// So many small collections.
        static void Collections(int n)
        {
            for (int i = 0; i < n; i++)
            {
                Keep.Add(new Dictionary<string, object> { ["a"] = i, ["b"] = "text" });
                Keep.Add(new List<int> { i });
                Keep.Add(new ConcurrentDictionary<int, int>(1, 3));
                Keep.Add(new ConcurrentQueue<int>());
            }
        }

        /// Exceptions with an inner one each, a chain of them, and one with many.
        static void Exceptions(int n)
        {
            Exception chain = null;
            var all = new List<Exception>();
            for (int i = 0; i < n; i++)
            {
                try { throw new Special("number " + i, new InvalidOperationException("inner")); }
                catch (Special e) { all.Add(e); }
                chain = new Special("level " + i, chain);
            }
            Keep.Add(new AggregateException(all)); Keep.Add(chain);
        }

        static void Throwing(int depth)
        {
            try { throw new Special("depth " + depth, null); }
            catch (Special) { if (depth == 0) { Gate.WaitOne(); } else { Throwing(depth - 1); } }
        }

        /// A thread that handles an exception while it handles an exception, and so on.
        static void Nested(int n) { Start(() => Throwing(n), 1 << 30); Thread.Sleep(2000); }

        static void Strings(int n)
        {
            for (int i = 0; i < n; i++)
            {
                Keep.Add("a string that is there once " + i);
                Keep.Add(new string('x', 10 + i % 100));
                if (i % 100 == 0) { Keep.Add(new string((char)('a' + i % 26), 2000)); }
            }
        }

        static void Delegates(int n)
        {
            for (int i = 0; i < n; i++) { int number = i; Keep.Add((Func<int>)(() => number)); }
        }

        /// One event with so many listeners, and as many events.
        static void Listeners(int n)
        {
            var source = new Source();
            var all = new EventHandler[n];
            for (int i = 0; i < n; i++)
            {
                all[i] = new Listener().On;
                var other = new Source();
                other.Changed += all[i];
                Keep.Add(other);
            }
            source.Changed += (EventHandler)Delegate.Combine(all);
            Keep.Add(source);
        }

        /// Work that waits for a thread of the pool.
        static void Pool(int n)
        {
            ThreadPool.SetMinThreads(2, 2); ThreadPool.SetMaxThreads(Environment.ProcessorCount, Environment.ProcessorCount);
            for (int i = 0; i < 100; i++) { ThreadPool.UnsafeQueueUserWorkItem(_ => Gate.WaitOne(), null); }
            for (int i = 0; i < n; i++) { ThreadPool.UnsafeQueueUserWorkItem(s => { GC.KeepAlive(s); }, new Node { Number = i }); }
            Thread.Sleep(500);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static int Recurse(int depth, object held) { if (depth == 0) { Gate.WaitOne(); return 0; } return Recurse(depth - 1, new Node { Number = depth, Value = held }) + 1; }

        /// A thread whose stack is so many calls deep.
        static void Frames(int n) { Start(() => Recurse(n, null), 1 << 30); Thread.Sleep(500); }

        static void Tokens(int n)
        {
            var source = new CancellationTokenSource();
            for (int i = 0; i < n; i++)
            {
                var linked = CancellationTokenSource.CreateLinkedTokenSource(source.Token);
                linked.Token.Register(s => { }, new Node { Number = i });
                Keep.Add(linked);
            }
            Keep.Add(source);
        }

        /// Objects in a row: the longest way from a root there is.
        static void LinkedNodes(int n)
        {
            Node first = null;
            for (int i = 0; i < n; i++) { first = new Node { Number = i, Next = first, Value = new object() }; }
            Keep.Add(first);
        }

        static void Structs(int n)
        {
            var all = new Pair[n];
            for (int i = 0; i < n; i++) { all[i] = new Pair { Number = i, Key = i, Value = new Node { Number = i } }; }
            Keep.Add(all); Keep.Add(new Pair[n / 10 + 1, 10]);
        }

        /// Objects of 100,000 bytes, which lie among themselves.
        static void Large(int n)
        {
            for (int i = 0; i < n; i++) { Keep.Add(new byte[100_000]); if (i % 2 == 0) { Keep.Add(new object[12_000]); } }
        }
    }
}

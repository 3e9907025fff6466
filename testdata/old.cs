// A small process full of known objects for the oldest runtimes (.NET Core 1.0 and 2.0, Windows and Linux). It is compiled
// against System.Private.CoreLib itself, writes what it knows of itself (one fact a line: NAME<TAB>VALUE) through the native
// helper `ready`, whose last call writes the dump.
using System;
using System.Collections.Generic;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Old
{
    public enum Colour : byte { Red = 1, Green = 2, Blue = 4 }
    public struct Point { public int X, Y; }
    public struct Pair { public int Id; public string Label; public long Big; public object Payload; }
    public class Node { public Node Next; public int Id; public string Name; public Pair P; }
    public class Derived : Node { public double D = 1.5; public byte B = 7; public short S = -2; public long L = -4; public float F = 1.5f; public char C = 'c'; public bool Yes = true; public decimal M = 7.75m; public Colour Paint = Colour.Blue; public Point At; public IntPtr Ptr = (IntPtr)0x1234; public int? Maybe = 42; }
    public class Box<T> { public T Value; public Box<T> Left, Right; public class Inner<U> { public U Extra; public T Owner; } public static int Made; public static T Last; }
    public class Finalizable { public int N; ~Finalizable() { Program.Finalized++; } }
    public class Blocker { ~Blocker() { Program.Entered.Set(); Program.Gate.WaitOne(); } }
    public class Publisher { public event EventHandler Closed; public static event EventHandler Ticked; public int Count() { return Closed == null ? 0 : Closed.GetInvocationList().Length; } public static int Static() { return Ticked.GetInvocationList().Length; } }
    public class Subscriber { public int N; public void On(object s, EventArgs e) { N++; } }
    public class AppError : Exception { public int Code; public AppError(int code, string m, Exception inner) : base(m, inner) { Code = code; } }

    public static class Program
    {
        public static int Finalized; public static readonly ManualResetEvent Entered = new ManualResetEvent(false), Gate = new ManualResetEvent(false);
        static int number = 4242; static long big = 0x1122334455667788; static double real = 6.25; static float single = 0.5f; static bool flag = true; static char letter = 'q'; static byte tiny = 200; static Colour paint = Colour.Green; static string motto = "static motto"; static Point spot; static decimal money = 12.5m; static IntPtr raw = (IntPtr)0x7654; static object nothing;
        static readonly List<object> Keep = new List<object>(); static readonly List<GCHandle> Handles = new List<GCHandle>(); static readonly List<string> Names = new List<string>(); static readonly Dictionary<string, Node> Map = new Dictionary<string, Node>();
        static readonly ConditionalWeakTable<object, string> Attached = new ConditionalWeakTable<object, string>();
        static readonly object Thin = new object(), Fat = new object(), Twice = new object(), Hashed = new object();
        static Node Head; static Pair[] Pairs; static int[,,] Grid; static Pair[,] Plane; static int[][] Jagged; static Array Based; static object[] Mixed; static string[] Words; static byte[] Large; static object[] LargeRefs; static double[] Doubles; static string Unicode, Long; static Stack<int> Pile; static Publisher Source; static Exception Caught; static Delegate Closed;
        [ThreadStatic] static string mine; [ThreadStatic] static int myNumber;
        static readonly object gate = new object(); static int begun;

        [DllImport("ready", EntryPoint = "fact")] static extern void Say([MarshalAs(UnmanagedType.LPStr)] string name, [MarshalAs(UnmanagedType.LPStr)] string value);
        [DllImport("ready", EntryPoint = "osid")] static extern int OsId();
        [DllImport("ready", EntryPoint = "ready")] static extern void Ready();

        static void Fact(string name, object value) { lock (gate) Say(name, value.ToString()); }
        static unsafe void FactAt(string name, object o) { TypedReference r = __makeref(o); Fact("address:" + name, (**(IntPtr**)&r).ToInt64().ToString("x")); }
        static void Me(string name, string method) { Fact("thread:" + name, "managed " + Thread.CurrentThread.ManagedThreadId + " os " + OsId().ToString("x") + " parked in " + method); if (name != "main") FactAt("threadObject:" + name, Thread.CurrentThread); }

        [MethodImpl(MethodImplOptions.NoInlining)] static bool Stay() { Interlocked.Increment(ref begun); Gate.WaitOne(); return false; }
        [MethodImpl(MethodImplOptions.NoInlining)] static void Fall(int n) { if (n == 0) throw new AppError(7, "bottom of it", new InvalidOperationException("inner")); Fall(n - 1); }
        [MethodImpl(MethodImplOptions.NoInlining)] static void Deep(int n) { if (n == 0) { Stay(); return; } Deep(n - 1); GC.KeepAlive(n); }
        [MethodImpl(MethodImplOptions.NoInlining)] static bool Remember(Exception e) { FactAt("inFlight", e); return true; }
        static void Thrower() { Mine("thrower", 44); Me("thrower", "Stay, in the filter of Thrower"); try { Fall(4); } catch (AppError e) when (Remember(e) && Stay()) { } }
        static void Owner() { Mine("owner", 11); Me("owner", "Stay, from Owner"); lock (Thin) lock (Fat) { lock (Twice) lock (Twice) Stay(); } }
        static void Waiter() { Mine("waiter", 22); Me("waiter", "Monitor.Enter, from Waiter"); Interlocked.Increment(ref begun); lock (Fat) { } }
        static void Digger() { Mine("digger", 55); Me("digger", "Stay, from Deep (6 times), from Digger"); var local = new Node { Name = "only on the stack of digger" }; FactAt("stackRoot", local); Deep(5); GC.KeepAlive(local); }
        static void Mine(string text, int n) { mine = text + "'s"; myNumber = n; if (text != "main") FactAt("threadStatic:" + text, mine); }
        static void Start(string name, ThreadStart body) { var t = new Thread(body); t.IsBackground = true; t.Name = name; t.Start(); }
        [MethodImpl(MethodImplOptions.NoInlining)] static void Drop(int n, int from) { for (int i = 0; i < n; i++) { var f = new Finalizable(); f.N = from + i; } }
        [MethodImpl(MethodImplOptions.NoInlining)] static void DropBlocker() { new Blocker(); }
        static void Hold(string name, object o, GCHandleType type) { var h = GCHandle.Alloc(o, type); Handles.Add(h); Names.Add("handle." + name); Fact("handleSlot:" + name, (GCHandle.ToIntPtr(h).ToInt64() & ~1).ToString("x")); }
        [MethodImpl(MethodImplOptions.NoInlining)] static void Dead() { Hold("weakDead", new Node { Name = "dead" }, GCHandleType.Weak); }
        static void Young() { for (int i = 0; i < 100; i++) Keep.Add(new Derived { Id = 9000 + i, Name = "young" }); }

        static unsafe int Main(string[] args)
        {
            Fact("pointer", IntPtr.Size); Fact("server", System.Runtime.GCSettings.IsServerGC); Mine("main", 33); Me("main", "Ready (a P/Invoke), from Main"); spot = new Point { X = 3, Y = 4 };
            for (int i = 0; i < 500; i++) { Node n = i % 3 == 0 ? new Derived { At = new Point { X = i, Y = -i } } : new Node(); n.Id = i; n.Name = "node " + i; n.Next = Head; n.P = new Pair { Id = i, Label = n.Name, Big = -i, Payload = n }; Head = n; if (i % 5 == 0) Map["k" + i] = n; }
            Pairs = new Pair[40]; for (int i = 0; i < 40; i++) Pairs[i] = new Pair { Id = i, Label = "pair" + i, Payload = i % 2 == 0 ? (object)i : null, Big = i };
            Grid = new int[2, 3, 4]; Grid[1, 2, 3] = 123; Plane = new Pair[2, 2]; Plane[1, 1].Label = "corner"; Jagged = new[] { new int[1], new int[2] }; Jagged[1][1] = 77; Based = Array.CreateInstance(typeof(string), new[] { 4 }, new[] { 10 }); Based.SetValue("eleven", 11);
            Words = new[] { "a", null, "b" }; Large = new byte[100000]; Large[99999] = 9; LargeRefs = new object[22000]; LargeRefs[21999] = Head; Doubles = new double[1200]; Doubles[1199] = 2.5; Unicode = "Gr\u00fc\u00dfe, \u4e16\u754c\n\ttab"; Long = new string('z', 3000); Pile = new Stack<int>(); Pile.Push(5); Pile.Push(6);
            Mixed = new object[] { 1, 2L, 3.5, 'x', true, Colour.Green, "text", new Point { X = 3, Y = 4 }, new Pair { Id = 1, Label = "boxed", Payload = Thin }, (int?)5, 12.5m, new DateTime(2024, 5, 1, 10, 43, 54, DateTimeKind.Utc), new Guid("00112233-4455-6677-8899-aabbccddeeff"), TimeSpan.FromMinutes(90), typeof(string), null, "", new int[0], (sbyte)-5, (ushort)65535, (uint)4000000000, (ulong)18446744073709551615, 1.25f, new IntPtr(0x4321) };
            Keep.Add(new Box<int> { Value = 5, Left = new Box<int>() }); Keep.Add(new Box<string>.Inner<List<Pair>> { Extra = new List<Pair> { Pairs[3] }, Owner = "outer" }); Keep.Add(new Box<Pair> { Value = Pairs[4] }); Keep.Add(new KeyValuePair<int, string>(1, "one"));
            Box<int>.Made = 3; Box<int>.Last = 9; Box<string>.Made = 4; Box<string>.Last = "last box"; Box<Pair>.Made = 5; Box<Pair>.Last = Pairs[7];
            int captured = 17; Closed = (Func<int, int>)(x => x + captured); Keep.Add((Func<int, int>)Math.Abs); Source = new Publisher(); for (int i = 0; i < 3; i++) { var s = new Subscriber { N = 70 + i }; Source.Closed += s.On; Publisher.Ticked += s.On; Keep.Add(s); }
            var type = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Emitted"), AssemblyBuilderAccess.Run).DefineDynamicModule("Emitted").DefineType("Emitted.Thing", TypeAttributes.Public); type.DefineField("Value", typeof(int), FieldAttributes.Public); var emitted = Activator.CreateInstance(type.CreateTypeInfo().AsType()); Keep.Add(emitted);
            try { Fall(3); } catch (AppError e) { Caught = e; }
            Hold("strong", new Node { Name = "strong" }, GCHandleType.Normal); Hold("pinned", new byte[33], GCHandleType.Pinned); Hold("weak", Keep, GCHandleType.Weak); Hold("weaktrack", Map, GCHandleType.WeakTrackResurrection); Dead();
            var key = new Node { Name = "dependent key" }; var value = new string('v', 7); Attached.Add(key, value); Keep.Add(key);
            var bytes = new byte[48]; var overlapped = new Overlapped().Pack(null, bytes); Fact("nativeOverlapped", ((IntPtr)overlapped).ToInt64().ToString("x"));
            Drop(15, -100); GC.Collect(); GC.WaitForPendingFinalizers(); Fact("finalized", Finalized);
            for (int i = 0; i < 20; i++) Keep.Add(new Finalizable { N = i });
            var suppressed = new Finalizable { N = 500 }; GC.SuppressFinalize(suppressed); Keep.Add(suppressed);
            DropBlocker(); GC.Collect(); Entered.WaitOne(); Drop(30, 1000); GC.Collect(); GC.Collect(1); Young(); GC.Collect(0); Drop(10, 2000); int collections = GC.CollectionCount(0);
            Start("owner", Owner); while (begun < 1) Thread.Sleep(10); Start("waiter", Waiter); Start("digger", Digger); while (begun < 3) Thread.Sleep(10); Thread.Sleep(300); Start("thrower", Thrower); while (begun < 4) Thread.Sleep(10); Thread.Sleep(300);
            for (int i = 0; i < Handles.Count; i++) { if (Handles[i].Target == null) Fact("address:" + Names[i], "0"); else FactAt(Names[i], Handles[i].Target); } FactAt("threadStatic:main", mine); FactAt("threadObject:main", Thread.CurrentThread); int b = 0; foreach (var o in Keep) if (o is Subscriber) FactAt("subscriber" + b++, o);
            foreach (var p in new Dictionary<string, object> { { "listHead", Head }, { "Map", Map }, { "Keep", Keep }, { "Pairs", Pairs }, { "Grid", Grid }, { "Plane", Plane }, { "Jagged", Jagged }, { "Based", Based }, { "Mixed", Mixed }, { "Words", Words }, { "Large", Large }, { "LargeRefs", LargeRefs }, { "Doubles", Doubles }, { "Unicode", Unicode }, { "Long", Long }, { "Pile", Pile }, { "Source", Source }, { "Caught", Caught }, { "Closed", Closed }, { "emitted", emitted }, { "dependentKey", key }, { "dependentValue", value }, { "overlappedBytes", bytes }, { "suppressed", suppressed }, { "Thin", Thin }, { "Fat", Fat }, { "Twice", Twice }, { "Hashed", Hashed }, { "youngLast", Keep[Keep.Count - 1] }, { "Box<String>.Last", Box<string>.Last }, { "motto", motto }, { "blockerGate", Gate } }) { FactAt(p.Key, p.Value); Fact("generation:" + p.Key, GC.GetGeneration(p.Value)); }
            Fact("value:Old.Program.number", number); Fact("value:Old.Program.big", big); Fact("value:Old.Program.real", "6.25"); Fact("value:Old.Program.single", "0.5"); Fact("value:Old.Program.flag", flag); Fact("value:Old.Program.letter", letter); Fact("value:Old.Program.tiny", tiny); Fact("value:Old.Program.paint", paint); Fact("value:Old.Program.spot", "3,4"); Fact("value:Old.Program.money", "12.5"); Fact("value:Old.Program.raw", raw.ToInt64().ToString("x")); Fact("value:Old.Program.nothing", nothing == null ? "null" : "?");
            Fact("value:Old.Box<System.Int32>.Made", Box<int>.Made); Fact("value:Old.Box<System.Int32>.Last", Box<int>.Last); Fact("value:Old.Box<System.String>.Made", Box<string>.Made); Fact("value:Old.Box<Old.Pair>.Last.Id", Box<Pair>.Last.Id);
            Fact("value:Keep.Count", Keep.Count); Fact("value:Map.Count", Map.Count); Fact("value:Source.Closed", Source.Count()); Fact("value:Publisher.Ticked", Publisher.Static());
            Fact("count:Old.Node", 500 - 167 + 3); Fact("note:Old.Node", "333 of the list, strong, dependent key, stackRoot; the object of handle weakDead is collected"); Fact("count:Old.Derived", 167 + 100); Fact("count:Old.Subscriber", 3); Fact("count:Old.Publisher", 1); Fact("count:Old.AppError", 2); Fact("count:Old.Finalizable", 61); Fact("note:Old.Blocker", "its finalizer runs and waits for ever (finalizer thread, Old.Blocker.Finalize); the object itself is collected");
            Fact("finalizable:live", 20); Fact("finalizable:ready", 30); Fact("finalizable:unreachable", 10); Fact("finalizable:suppressed", 1);
            Fact("hash:Hashed", RuntimeHelpers.GetHashCode(Hashed).ToString("x")); Fact("hash:Fat", RuntimeHelpers.GetHashCode(Fat).ToString("x")); Fact("lock:Thin", "thin, held once by owner"); Fact("lock:Twice", "thin, held twice by owner"); Fact("lock:Fat", "sync block, held once by owner, waiter waits");
            Fact("gc0", GC.CollectionCount(0)); Fact("gc1", GC.CollectionCount(1)); Fact("gc2", GC.CollectionCount(2)); Fact("finalizedAtEnd", Finalized); Fact("collectionsSinceAddresses", GC.CollectionCount(0) - collections);
            Ready(); Stay(); GC.KeepAlive(key); GC.KeepAlive(value); return 0;
        }
    }
}

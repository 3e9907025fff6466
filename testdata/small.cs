// A small process full of known objects, for every runtime from .NET Core 2.1 on. It writes what it knows of itself (one fact
// a line: NAME<TAB>VALUE) to the file named by its argument, then READY, and waits to be dumped.
using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Small
{
    public enum Colour : byte { Red = 1, Green = 2, Blue = 4 }
    public struct Point { public int X, Y; }
    public struct Pair { public int Id; public string Label; public long Big; public object Payload; }
    public class Base { public string Name; public double Weight = 2.5; }
    public sealed class Derived : Base { public byte B = 7; public short S = -2; public long L = -4; public float F = 1.5f; public char C = 'c'; public bool Yes = true; public decimal M = 7.75m; public Colour Paint = Colour.Blue; public Point At = new Point { X = 10, Y = -20 }; public IntPtr P = (IntPtr)0x1234; public int? Maybe = 42; public Derived Next; }
    public class Node<T> { public T Value; public Node<T> Left, Right; public class Inner<U> { public U Extra; public T Owner; } public static int Made; public static T Last; }
    public class Finalizable { public int N; ~Finalizable() { Program.Finalized++; } }
    public class AppError : Exception { public int Code; public AppError(int code, string m, Exception inner) : base(m, inner) { Code = code; } }

    public static class Program
    {
        public static int Finalized; public static long Big = 0x1122334455667788; public static double Real = 6.25; public static Point Spot = new Point { X = 3, Y = 4 };
        public static string Motto = "static motto"; static readonly object Fat = new object(), Thin = new object();
        static readonly List<object> Keep = new List<object>(); static readonly List<GCHandle> Handles = new List<GCHandle>();
        static readonly Dictionary<string, Derived> Cache = new Dictionary<string, Derived>();
        static readonly ConditionalWeakTable<object, Derived> Attached = new ConditionalWeakTable<object, Derived>();
        static Pair[] Pairs; static int[,,] Grid; static Pair[,] Plane; static int[][] Jagged; static string Unicode; static byte[] Large; static Derived Head;
        [ThreadStatic] static string mine; [ThreadStatic] static int number;
        static StreamWriter facts; static int begun;
        [DllImport("kernel32.dll")] static extern int GetCurrentProcessId();

        static void Fact(string name, object value) { lock (facts) facts.Write(name + "\t" + value + "\n"); }
        static unsafe void FactAt(string name, object o) { TypedReference r = __makeref(o); Fact("address:" + name, (**(IntPtr**)&r).ToInt64().ToString("x")); }

        static bool Stay() { Interlocked.Increment(ref begun); Thread.Sleep(3600000); return false; }
        static void Fall(int n) { if (n == 0) throw new AppError(7, "bottom of it", new InvalidOperationException("inner")); Fall(n - 1); }
        static void Thrower() { try { Fall(4); } catch (AppError e) when (Remember(e) && Stay()) { } }
        static bool Remember(Exception e) { FactAt("exception", e); return true; }
        static void Owner() { mine = "owner's"; number = 11; lock (Thin) lock (Fat) Stay(); }
        static void Waiter() { mine = "waiter's"; number = 22; Interlocked.Increment(ref begun); lock (Fat) { } }
        static void Start(string name, ThreadStart body) { new Thread(body) { IsBackground = true, Name = name }.Start(); }
        [MethodImpl(MethodImplOptions.NoInlining)] static void Drop(int n) { for (int i = 0; i < n; i++) new Finalizable { N = -1 }; }
        static void Hold(string name, object o, GCHandleType type) { Handles.Add(GCHandle.Alloc(o, type)); FactAt("handle." + name, o); }

        static int Main(string[] args)
        {
            facts = new StreamWriter(args[0]) { AutoFlush = true };
            Fact("runtime", Environment.Version); Fact("pointer", IntPtr.Size); Fact("server", System.Runtime.GCSettings.IsServerGC);
            Pairs = new Pair[40]; for (int i = 0; i < 40; i++) Pairs[i] = new Pair { Id = i, Label = "pair" + i, Payload = i % 2 == 0 ? (object)i : null, Big = i };
            Grid = new int[2, 3, 4]; Grid[1, 2, 3] = 123; Plane = new Pair[2, 2]; Plane[1, 1].Label = "corner"; Jagged = new[] { new int[1], new int[2] };
            Keep.Add(Array.CreateInstance(typeof(string), new[] { 4 }, new[] { 10 })); Keep.Add(new double[600]); Keep.Add(new long[3]);
            Unicode = "Gr\u00fc\u00dfe, \u4e16\u754c"; Large = new byte[100000]; mine = "main's"; number = 33;
            for (int i = 0; i < 200; i++) Cache["key" + i] = Head = new Derived { Name = "derived" + i, Next = Head };
            Keep.Add(new Node<int> { Value = 5, Left = new Node<int>() }); Keep.Add(new Node<string>.Inner<List<Pair>> { Extra = new List<Pair> { Pairs[3] }, Owner = "outer" });
            Node<int>.Made = 3; Node<int>.Last = 9; Node<string>.Made = 4; Node<string>.Last = "last node";
            Keep.Add((Func<int, int>)(x => x + 1)); Keep.Add(typeof(string)); Keep.Add((object)Colour.Green); Keep.Add(new Point { X = 1, Y = 2 });
            var type = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Emitted"), AssemblyBuilderAccess.Run).DefineDynamicModule("Emitted").DefineType("Emitted.Thing", TypeAttributes.Public); type.DefineField("Value", typeof(int), FieldAttributes.Public); Keep.Add(Activator.CreateInstance(type.CreateTypeInfo().AsType()));
            Hold("strong", new Base { Name = "strong" }, GCHandleType.Normal); Hold("pinned", new byte[33], GCHandleType.Pinned); Hold("weak", Keep, GCHandleType.Weak);
            var key = new Base { Name = "dependent key" }; Attached.Add(key, new Derived { Name = "dependent value" }); Keep.Add(key);
            Drop(50); GC.Collect(); GC.WaitForPendingFinalizers(); for (int i = 0; i < 20; i++) Keep.Add(new Finalizable { N = i });
            Start("thrower", Thrower); Start("owner", Owner); Thread.Sleep(300); Start("waiter", Waiter); while (begun < 3) Thread.Sleep(10); Thread.Sleep(500);
            foreach (var p in new Dictionary<string, object> { ["Keep"] = Keep, ["Cache"] = Cache, ["Pairs"] = Pairs, ["Grid"] = Grid, ["Plane"] = Plane, ["Jagged"] = Jagged, ["Unicode"] = Unicode, ["Large"] = Large, ["listHead"] = Head, ["dependentKey"] = key, ["Fat"] = Fat, ["Thin"] = Thin }) FactAt(p.Key, p.Value);
            Fact("count:Small.Derived", 201); Fact("hash:Pairs", RuntimeHelpers.GetHashCode(Pairs).ToString("x"));
            Fact("pid", GetCurrentProcessId()); Fact("READY", 1); Thread.Sleep(3600000); GC.KeepAlive(Head); return 0;
        }
    }
}

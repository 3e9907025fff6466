// Case: the pool has fallen behind, twenty threads hold one object, a timer and a chain of the same length hold another; then
// the process ends itself and says why. Run with DOTNET_DbgEnableMiniDump=1 and DOTNET_DbgMiniDumpType=2.
using System; using System.Runtime.CompilerServices; using System.Threading;
class Shared { public int Id = 7; } class Ticket { public int Number = 9; } class Link { public object Next; }
static class P
{
    static readonly ManualResetEvent stop = new ManualResetEvent(false); static Link chain; static Link timer; static WeakReference Kept, Number;
    static void Slow(object o) { } static void Fast(object o) { }
    [MethodImpl(MethodImplOptions.NoInlining)] static void Hold(Shared s) { Thread.Sleep(-1); GC.KeepAlive(s); }
    [MethodImpl(MethodImplOptions.NoInlining)] static void Share() { var s = new Shared(); Kept = new WeakReference(s); for (int i = 0; i < 20; i++) { var box = new[] { s }; new Thread(o => { var a = (Shared[])o; var x = a[0]; a[0] = null; Hold(x); }, 256 * 1024) { IsBackground = true, Name = "holder " + i }.Start(box); } }
    [MethodImpl(MethodImplOptions.NoInlining)] static void Tickets() { var t = new Ticket(); Number = new WeakReference(t); timer = new Link { Next = new Link { Next = new Timer(o => { }, t, 3600000, 3600000) } }; chain = new Link { Next = new Link { Next = new Link { Next = t } } }; }
    [MethodImpl(MethodImplOptions.NoInlining)] static void Check(string what, int left) { if (left < 3) Environment.FailFast("out of " + what + ": " + left + " left", new InvalidOperationException("inner reason " + left)); }
    static void Main(string[] a)
    {
        F.Open(a); ThreadPool.SetMinThreads(2, 2); ThreadPool.SetMaxThreads(2, 2); for (int i = 0; i < 2; i++) ThreadPool.QueueUserWorkItem(_ => stop.WaitOne()); Thread.Sleep(500);
        for (int i = 0; i < 12000; i++) ThreadPool.UnsafeQueueUserWorkItem(Slow, null); for (int i = 0; i < 3000; i++) ThreadPool.UnsafeQueueUserWorkItem(Fast, null);
        Share(); Tickets(); Thread.Sleep(500); GC.Collect(); Thread.Sleep(200); GC.Collect(); F.FactAt("Shared", Kept.Target); F.FactAt("Ticket", Number.Target);
        Check("disk space", 2);
    }
}

// Case: the heap has a limit and is full: what the collector recorded when it gave up, and what the program caught.
using System; using System.Collections.Generic; using System.Threading;
static class P
{
    static readonly List<byte[]> Keep = new List<byte[]>(); static OutOfMemoryException Caught;
    static void Main(string[] a)
    {
        F.Open(a);
        try { for (;;) Keep.Add(new byte[400_000]); } catch (OutOfMemoryException e) { Caught = e; }
        int n = Keep.Count; Keep.RemoveRange(n / 2, n - n / 2); Keep.TrimExcess();
        F.Fact("arrays", n); F.FactAt("Caught", Caught); F.Ready(Keep);
    }
}

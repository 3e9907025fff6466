// What linux-x64-10.0-web-heap holds: what !leaks tells of wasted memory and of well-known classes, handles nobody can free,
// requests that are served and that were sent (run with: x 600 FACTS_FILE, beside Planted.dll).
using System; using System.Collections.Concurrent; using System.Collections.Generic; using System.Diagnostics; using System.IO; using System.Net; using System.Net.Http; using System.Net.Sockets; using System.Runtime.CompilerServices; using System.Runtime.InteropServices; using System.Text; using System.Threading; using System.Threading.Tasks;
using HttpVersion = Microsoft.AspNetCore.Server.Kestrel.Core.Internal.Http.HttpVersion; using Microsoft.AspNetCore.Hosting; using Microsoft.AspNetCore.Http; using Microsoft.AspNetCore.Server.Kestrel.Core.Internal.Http; using Microsoft.EntityFrameworkCore;
namespace Web {
public struct Point { public long X, Y; }
public class Customer { public List<int> Orders = new List<int>(64) { 1, 2, 3 }; }
public class Setting { public object Value; }
public class Row { public byte[] Icon; }
public class Entity { public int Id; }
public class Shop : DbContext { }
public class Api { public HttpClient Client = new HttpClient(); }
public class Job { public byte[] Load = new byte[200]; public int Ran; public void Cancel() { Ran++; } }
public static class Program {
 static readonly List<Customer> customers = new(); static readonly List<Setting> settings = new(); static readonly List<Row> rows = new(); static readonly List<byte[]> fresh = new();
 static readonly List<WeakReference<Job>> listeners = new(); static readonly Dictionary<int, WeakReference> cache = new(); static readonly List<Job> kept = new();
 static readonly List<Api> apis = new(); static readonly CancellationTokenSource stopping = new(); static readonly Shop shop = new();
 static readonly Dictionary<int, long> emptied = new(5000); static readonly ConcurrentDictionary<int, string> few = new(4, 10000); static readonly List<object> builders = new();
 static readonly List<ulong> forgotten = new(); static readonly List<GCHandle> pins = new(); static readonly List<object> served = new(); static readonly TaskCompletionSource never = new();
 const ulong Mask = 0x5555_5555_5555_5555;
 [MethodImpl(MethodImplOptions.NoInlining)] static void Weak(int n) { for (int i = 0; i < n; i++) { var job = new Job(); listeners.Add(new WeakReference<Job>(job)); cache[i] = new WeakReference(new Job(), i % 2 == 0); if (i % 10 == 0) kept.Add(job); } }
 [MethodImpl(MethodImplOptions.NoInlining)] static void Churn() { for (int i = 0; i < 7; i++) GC.KeepAlive(new HttpClient()); }
 // The words that name the handles are kept in another form alone.
 [MethodImpl(MethodImplOptions.NoInlining)] static void Forget(int n) { for (int i = 0; i < n; i++) { var h = GCHandle.Alloc(new byte[100 + i], i % 2 == 0 ? GCHandleType.Pinned : GCHandleType.Normal); forgotten.Add((ulong)(long)GCHandle.ToIntPtr(h) ^ Mask); } }
 [MethodImpl(MethodImplOptions.NoInlining)] static long Scrub(int depth) { Span<long> s = stackalloc long[200]; s.Fill(depth); return depth == 0 ? s[7] : Scrub(depth - 1) + s[3]; }
 static async Task Handle(DefaultHttpContext context) { await Query(context); GC.KeepAlive(context); }
 static async Task Query(DefaultHttpContext context) { await never.Task; GC.KeepAlive(context); }
 static T Serve<T>(RequestProcessingStatus state, HttpVersion version, string method, int status, string path, string query, object host, long age) where T : HttpProtocol, new() {
  long now = Stopwatch.GetTimestamp(); var p = new T { Path = path, QueryString = query, ConnectionIdFeature = "C" + served.Count };
  p.Set(state, version, method, status, false, "C" + served.Count + ":1", host, now);
  if (age > 0) typeof(T).GetProperty("HostContext").SetValue(p, new HostingApplication.Context { StartTimestamp = now - age * 1_000_000 });
  served.Add(p); return p; }
 static void Requests() {
  var get = Serve<Http1Connection<HostingApplication.Context>>(RequestProcessingStatus.AppStarted, HttpVersion.Http11, null, 200, "/orders", "?token=secret", "shop.test", 4321); get.Method = Microsoft.AspNetCore.Server.Kestrel.Core.Internal.Http.HttpMethod.Get; var context = new DefaultHttpContext(get); served.Add(context); served.Add(get.ProcessRequests(Handle, context));
  var post = Serve<Http2Stream<HostingApplication.Context>>(RequestProcessingStatus.HeadersFlushed, HttpVersion.Http2, "POST", 503, "/pay", null, new[] { "pay.test" }, 0); var paying = new DefaultHttpContext(post); served.Add(paying);
  new Thread(() => { Pay(paying); }) { IsBackground = true, Name = "pays" }.Start();
  var half = Serve<Http1Connection<HostingApplication.Context>>(RequestProcessingStatus.ParsingHeaders, HttpVersion.Http11, "PURGE", 200, "/half", null, "half.test", 0); GC.KeepAlive(half);
  Serve<Http1Connection<HostingApplication.Context>>(RequestProcessingStatus.RequestPending, HttpVersion.Unknown, null, 200, null, null, null, 0);
  var done = new DefaultHttpContext(post); done.Uninitialize(); served.Add(done);
  served.Add(new System.Web.HttpContext(new System.Web.HttpRequest("HEAD", "/old.aspx", "id=7"), DateTime.UtcNow.AddMinutes(-2), Thread.CurrentThread)); }
 [MethodImpl(MethodImplOptions.NoInlining)] static void Pay(DefaultHttpContext context) { Thread.Sleep(3600000); GC.KeepAlive(context); }
 static async Task<string> Ask(HttpClient client, string uri) { using var answer = await client.GetAsync(uri); return await answer.Content.ReadAsStringAsync(); }
 static void Send() {
  var listener = new TcpListener(IPAddress.Loopback, 0); listener.Start(); var at = "http://127.0.0.1:" + ((IPEndPoint)listener.LocalEndpoint).Port;
  Task.Run(async () => { for (; ; ) { var c = await listener.AcceptTcpClientAsync(); var b = new byte[2000]; int n = await c.GetStream().ReadAsync(b); if (Encoding.ASCII.GetString(b, 0, n).StartsWith("PUT")) await c.GetStream().WriteAsync(Encoding.ASCII.GetBytes("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")); lock (served) served.Add(c); } });
  var client = new HttpClient(); var answer = client.PutAsync(at + "/answered", new StringContent("x")).Result; lock (served) served.Add(answer);
  for (int i = 0; i < 3; i++) { var t = Ask(client, at + "/slow/" + i + "?token=secret"); lock (served) served.Add(t); } }
 static int Main(string[] a) {
  int n = int.Parse(a[1]); var icon = new byte[6000]; new Random(1).NextBytes(icon);
  for (int i = 0; i < n; i++) { customers.Add(new Customer()); settings.Add(new Setting { Value = i % 2 == 0 ? i : new Point { X = i } }); settings.Add(new Setting { Value = (long)i }); for (int k = 0; k < 3; k++) settings.Add(new Setting { Value = (double)i }); }
  for (int i = 0; i < n / 20; i++) { var row = new Row { Icon = (byte[])icon.Clone() }; if (i % 5 == 0) row.Icon[5999] ^= (byte)(1 + i); rows.Add(row); fresh.Add(new byte[6000]); }
  for (int i = 0; i < n / 50; i++) { builders.Add(new StringBuilder("abc", 2000)); var s = new MemoryStream(3000); s.WriteByte(1); builders.Add(s); builders.Add(new Queue<long>(500)); }
  for (int i = 0; i < 4000; i++) emptied[i] = i; for (int i = 3; i < 4000; i++) emptied.Remove(i); for (int i = 0; i < 10; i++) few[i] = "x";
  Weak(n); for (int i = 0; i < n / 25; i++) apis.Add(new Api());
  for (int i = 0; i < n; i++) { var registration = stopping.Token.Register(new Job().Cancel); if (i % 4 == 3) registration.Dispose(); }
  for (int i = 0; i < n; i++) shop.Attach(new Entity { Id = i });
  pins.Add(GCHandle.Alloc(new byte[50], GCHandleType.Pinned)); Forget(40); Scrub(300); GC.Collect(); GC.Collect(); Requests(); Send(); Churn(); Thread.Sleep(1500);
  long dead = 0; foreach (var w in listeners) if (!w.TryGetTarget(out _)) dead++; foreach (var w in cache.Values) if (w.Target == null) dead++;
  long spare = 0; foreach (var c in customers) spare += (c.Orders.Capacity - c.Orders.Count) * 4;
  foreach (var b in builders) spare += b switch { StringBuilder x => (x.Capacity - x.Length) * 2, MemoryStream m => m.Capacity - m.Length, Queue<long> q => (q.EnsureCapacity(0) - q.Count) * 8, _ => 0 };
  var facts = "runtime\t" + RuntimeInformation.FrameworkDescription + "\npid\t" + Environment.ProcessId + "\ncount:n\t" + n + "\nbytes:spare\t" + spare + "\ncount:emptied\t" + emptied.EnsureCapacity(0) + "\ncount:dead\t" + dead + "\ncount:tracked\t" + shop.Tracked + "\n";
  for (int i = 0; i < forgotten.Count; i++) facts += "forgotten:" + i + "\t" + forgotten[i].ToString("x") + "\n"; Scrub(300);
  File.WriteAllText(a[2], facts + "READY\t1\n"); Thread.Sleep(3600000); GC.KeepAlive(icon); return 0; } } }

// Stands for what ASP.NET Core, ASP.NET of .NET Framework and EF Core keep of requests and entities: classes and fields as
// dotnet/aspnetcore v10.0, the reference source 4.8 and dotnet/efcore v8.0 name them. Compiled as a library (Planted.dll).
using System; using System.Collections.Generic; using System.Threading; using System.Threading.Tasks;
namespace Microsoft.EntityFrameworkCore {
 public class DbContext { readonly ChangeTracking.Internal.StateManager _stateManager; public DbContext() { _stateManager = new ChangeTracking.Internal.StateManager(this); } public void Attach(object entity) => _stateManager.Track(entity); public int Tracked => _stateManager.Count; } }
namespace Microsoft.EntityFrameworkCore.ChangeTracking.Internal {
 public class StateManager { readonly Dictionary<object, InternalEntityEntry> _unchangedReferenceMap = new(); public StateManager(DbContext context) { Context = context; } public DbContext Context { get; } public int Count => _unchangedReferenceMap.Count; public void Track(object entity) => _unchangedReferenceMap[entity] = new InternalEntityEntry(this, entity); }
 public sealed class InternalEntityEntry { public InternalEntityEntry(StateManager stateManager, object entity) { StateManager = stateManager; Entity = entity; } public StateManager StateManager { get; } public object Entity { get; } } }
namespace Microsoft.AspNetCore.Http.Features { public struct FeatureReferences<T> { public object Collection { get; set; } public int Revision { get; set; } public T Cache; } }
namespace Microsoft.AspNetCore.Http {
 using Features;
 public sealed class DefaultHttpContext { struct Interfaces { public object Items; } FeatureReferences<Interfaces> _features; public DefaultHttpContext(object features) { _features = new FeatureReferences<Interfaces> { Collection = features }; } public void Uninitialize() { _features = default; } } }
namespace Microsoft.AspNetCore.Hosting { public class HostingApplication { public class Context { public long StartTimestamp { get; set; } } } }
namespace Microsoft.AspNetCore.Server.Kestrel.Core.Internal.Infrastructure { public class TimeoutControl { long _lastTimestamp; public void Tick(long now) { _lastTimestamp = now; } } }
namespace Microsoft.AspNetCore.Server.Kestrel.Core.Internal { public class HttpConnectionContext { public Infrastructure.TimeoutControl TimeoutControl { get; } = new(); } }
namespace Microsoft.AspNetCore.Server.Kestrel.Core.Internal.Http {
 public enum HttpMethod : byte { Get, Put, Delete, Post, Head, Trace, Patch, Connect, Options, Custom, None = 255 }
 public enum HttpVersion : sbyte { Unknown = -1, Http10, Http11, Http2, Http3 }
 public enum RequestProcessingStatus { RequestPending, ParsingRequestLine, ParsingHeaders, AppStarted, HeadersCommitted, HeadersFlushed, ResponseCompleted }
 public struct StringValues { object _values; public StringValues(object values) { _values = values; } }
 public class HttpRequestHeaders { struct HeaderReferences { public StringValues _Host; } HeaderReferences _headers; public HttpRequestHeaders(object host) { _headers._Host = new StringValues(host); } }
 public abstract class HttpProtocol {
  protected RequestProcessingStatus _requestProcessingStatus; protected HttpVersion _httpVersion; protected string _methodText; int _statusCode = 200; bool _connectionAborted; string _requestId; readonly HttpConnectionContext _context = new();
  public HttpMethod Method { get; set; } = HttpMethod.None; public string Scheme { get; set; } = "http"; public string PathBase { get; set; } public string Path { get; set; } public string QueryString { get; set; } public string ConnectionIdFeature { get; set; } protected HttpRequestHeaders HttpRequestHeaders { get; set; }
  public void Set(RequestProcessingStatus state, HttpVersion version, string method, int status, bool aborted, string id, object host, long now) { _requestProcessingStatus = state; _httpVersion = version; _methodText = method; _statusCode = status; _connectionAborted = aborted; _requestId = id; HttpRequestHeaders = new HttpRequestHeaders(host); _context.TimeoutControl.Tick(now); }
  public async Task ProcessRequests(Func<Microsoft.AspNetCore.Http.DefaultHttpContext, Task> app, Microsoft.AspNetCore.Http.DefaultHttpContext context) { await app(context); GC.KeepAlive(_connectionAborted); GC.KeepAlive(_requestId); } }
 public class Http1Connection<T> : HttpProtocol { public T HostContext { get; set; } }
 public class Http2Stream<T> : HttpProtocol { public T HostContext { get; set; } } }
namespace System.Web {
 public class VirtualPath { string _virtualPath; public VirtualPath(string path) { _virtualPath = path; } }
 public class HttpRequest { string _httpMethod, _queryStringText; VirtualPath _filePath; public HttpRequest(string method, string path, string query) { _httpMethod = method; _filePath = new VirtualPath(path); _queryStringText = query; } }
 public class HttpResponse { int _statusCode = 302; }
 public class HttpContext { HttpRequest _request; HttpResponse _response = new(); DateTime _utcTimestamp; Thread _thread; public HttpContext(HttpRequest request, DateTime began, Thread thread) { _request = request; _utcTimestamp = began; _thread = thread; } } }

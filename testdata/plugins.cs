// What linux-x64-10.0-plugins-heap holds: two plug-ins in load contexts of their own, of which one was told to unload and
// cannot, assemblies made at run time, and methods made at run time (run with: FACTS_FILE).
using System; using System.Collections.Generic; using System.IO; using System.Reflection; using System.Reflection.Emit; using System.Runtime.CompilerServices; using System.Runtime.InteropServices; using System.Runtime.Loader; using System.Threading;
namespace Host {
public sealed class PluginContext : AssemblyLoadContext { public readonly string Folder; public PluginContext(string name, string folder) : base(name, true) { Folder = folder; } protected override Assembly Load(AssemblyName name) => null; }
public class Menu { public event EventHandler Clicked; public void Click() => Clicked?.Invoke(this, EventArgs.Empty); }
public static class Program {
 public static readonly Menu Menu = new Menu(); static readonly List<object> keep = new List<object>(); static readonly List<Func<int, int>> methods = new List<Func<int, int>>(); static Dictionary<string, object> live = new Dictionary<string, object>(); static readonly List<string> facts = new List<string>(); static readonly ManualResetEvent ready = new ManualResetEvent(false); static WeakReference leaked;
 static unsafe string At(object o) => (*(IntPtr*)Unsafe.AsPointer(ref o)).ToInt64().ToString("x");
 static void Say(string name, object value) => facts.Add(name + "\t" + value);
 [MethodImpl(MethodImplOptions.NoInlining)] static Assembly Load(PluginContext c, string file, List<object> keep) { var a = c.LoadFromAssemblyPath(Path.Combine(c.Folder, file)); a.GetType(Path.GetFileNameWithoutExtension(file) + ".Entry").GetMethod("Start").Invoke(null, new object[] { keep }); return a; }
 // Unloading has begun, but the menu holds a handler of the plug-in: it stays.
 [MethodImpl(MethodImplOptions.NoInlining)] static void Leak(string folder) { var c = new PluginContext("Billing", folder); var a = Load(c, "Billing.dll", new List<object>()); Menu.Clicked += (EventHandler)a.GetType("Billing.Entry").GetMethod("Handler").Invoke(null, null); leaked = new WeakReference(c); c.Unload(); }
 [MethodImpl(MethodImplOptions.NoInlining)] static void Gone(string folder) { var c = new PluginContext("Gone", folder); Load(c, "Reports.dll", new List<object>()); c.Unload(); }
 [MethodImpl(MethodImplOptions.NoInlining)] static void Stay(string folder) { var c = new PluginContext("Reports", folder); live["context"] = c; live["reports"] = Load(c, "Reports.dll", keep); Thread t = new Thread(() => { ((Assembly)live["reports"]).GetType("Reports.Entry").GetMethod("OnThread").Invoke(null, new object[] { 7 }); ready.Set(); Thread.Sleep(3600000); }) { IsBackground = true, Name = "reports worker" }; t.Start(); ready.WaitOne(); }
 // An assembly of types made at run time: a class with an instance and a static field, a generic one, an enum, a struct.
 [MethodImpl(MethodImplOptions.NoInlining)] static void Emit(string name, AssemblyBuilderAccess access) {
  var m = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName(name), access).DefineDynamicModule(name + ".Module");
  var e = m.DefineEnum(name + ".Colour", TypeAttributes.Public, typeof(byte)); e.DefineLiteral("Red", (byte)1); e.DefineLiteral("Blue", (byte)2); var colour = e.CreateTypeInfo().AsType();
  var s = m.DefineType(name + ".Point", TypeAttributes.Public | TypeAttributes.Sealed | TypeAttributes.SequentialLayout, typeof(ValueType)); s.DefineField("X", typeof(int), FieldAttributes.Public); s.DefineField("Y", typeof(double), FieldAttributes.Public); var point = s.CreateTypeInfo().AsType();
  var g = m.DefineType(name + ".Box`1", TypeAttributes.Public); var t = g.DefineGenericParameters("T")[0]; g.DefineField("Value", t, FieldAttributes.Public); var open = g.CreateTypeInfo().AsType();
  var b = m.DefineType(name + ".Thing", TypeAttributes.Public); b.DefineField("Text", typeof(string), FieldAttributes.Public); b.DefineField("Colour", colour, FieldAttributes.Public); b.DefineField("At", point, FieldAttributes.Public); b.DefineField("Shared", typeof(string), FieldAttributes.Public | FieldAttributes.Static); b.DefineField("Count", typeof(int), FieldAttributes.Public | FieldAttributes.Static);
  var thing = b.CreateTypeInfo().AsType(); thing.GetField("Shared").SetValue(null, "shared of " + name); thing.GetField("Count").SetValue(null, 4711);
  var o = Activator.CreateInstance(thing); thing.GetField("Text").SetValue(o, "text of " + name); thing.GetField("Colour").SetValue(o, Enum.ToObject(colour, 2)); keep.Add(o);
  var closed = open.MakeGenericType(thing); var box = Activator.CreateInstance(closed); closed.GetField("Value").SetValue(box, o); keep.Add(box);
  keep.Add(Array.CreateInstance(thing, 3)); keep.Add(Array.CreateInstance(point, 2)); keep.Add(Activator.CreateInstance(typeof(List<>).MakeGenericType(thing)));
 }
 // Methods of rising size, so that their code fills more than one block; every second is dropped.
 [MethodImpl(MethodImplOptions.NoInlining)] static void Methods(int n) {
  for (int i = 0; i < n; i++) { var d = new DynamicMethod("Made" + i, typeof(int), new[] { typeof(int) }, typeof(Program).Module, true); var il = d.GetILGenerator(); il.Emit(OpCodes.Ldarg_0); for (int k = 0; k < 10 + i; k++) { il.Emit(OpCodes.Ldc_I4, k * 7919 + i); il.Emit(OpCodes.Xor); il.Emit(OpCodes.Ldarg_0); il.Emit(OpCodes.Mul); } il.Emit(OpCodes.Ret); var f = (Func<int, int>)d.CreateDelegate(typeof(Func<int, int>)); f(i); if (i % 2 == 0) methods.Add(f); } }
 static int Main(string[] a) {
  string folder = Path.Combine(AppContext.BaseDirectory, "plugins");
  Gone(folder); for (int i = 0; i < 8; i++) { GC.Collect(); GC.WaitForPendingFinalizers(); }
  Stay(folder); Leak(folder); Emit("Made", AssemblyBuilderAccess.Run); Emit("Passing", AssemblyBuilderAccess.RunAndCollect); Methods(60);
  for (int i = 0; i < 4; i++) { GC.Collect(); GC.WaitForPendingFinalizers(); }
  foreach (var c in AssemblyLoadContext.All) { Say("context:" + (c.Name ?? ""), At(c)); foreach (var x in c.Assemblies) Say("assembly:" + c.Name, x.GetName().Name); }
  Say("address:Menu", At(Menu)); Say("leaked:Billing", At(leaked.Target)); for (int i = 0; i < keep.Count; i++) Say("keep:" + keep[i].GetType(), At(keep[i])); Say("methods", methods.Count);
  Say("runtime", RuntimeInformation.FrameworkDescription); Say("READY", 1);
  File.WriteAllLines(a[a.Length - 1], facts); live["end"] = new byte[100]; Thread.Sleep(3600000); GC.KeepAlive(methods); return 0; }
}}

// Native memory with known owners: writes what it planted, stops, is dumped.
// Owners FACTS: rows of kind, count and usable bytes (malloc_usable_size), and the addresses of some blocks.
using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using System.Threading;

static unsafe class Owners {
    [DllImport("libc")] static extern nuint malloc_usable_size(IntPtr p);
    [DllImport("libc")] static extern IntPtr malloc(nuint size);

    sealed class NativeBuffer : SafeHandle {
        public NativeBuffer(int n) : base(IntPtr.Zero, true) { SetHandle(Marshal.AllocHGlobal(n)); }
        public override bool IsInvalid => handle == IntPtr.Zero;
        protected override bool ReleaseHandle() { Marshal.FreeHGlobal(handle); return true; }
        public IntPtr At => handle;
    }
    sealed class Image { public IntPtr Pixels; public int Width; }
    sealed class NativeList { public long* Data; public int Count; }
    struct Pair { public long Key; public IntPtr Value; }
    sealed class Forgotten { public IntPtr Leaked; }

    static readonly List<object> kept = new();
    static IntPtr[] strings;
    static Pair[] pairs;
    static readonly Dictionary<int, IntPtr> byKey = new();
    static StreamWriter facts;

    static void Plant(string kind, IEnumerable<IntPtr> blocks) {
        int n = 0; ulong bytes = 0; var first = IntPtr.Zero;
        foreach (var b in blocks) { if (n++ == 0) first = b; bytes += (ulong)malloc_usable_size(b); }
        facts.WriteLine($"{kind}\t{n}\t{bytes}\t{(long)first:x}");
    }

    static IntPtr Filled(int n) { var p = Marshal.AllocHGlobal(n); new Span<byte>((void*)p, n).Fill(0x11); return p; }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    static void Work() {
        var list = new List<IntPtr>();
        for (int i = 0; i < 300; i++) { var b = new NativeBuffer(700 + i); new Span<byte>((void*)b.At, 700).Fill(0x22); kept.Add(b); list.Add(b.At); }
        Plant("NativeBuffer.handle", list); list.Clear();
        for (int i = 0; i < 40; i++) { var m = new Image { Pixels = Filled(5000 + 10 * i), Width = i }; kept.Add(m); list.Add(m.Pixels); }
        Plant("Image.Pixels", list); list.Clear();
        for (int i = 0; i < 100; i++) { var l = new NativeList { Data = (long*)NativeMemory.AllocZeroed(300), Count = i }; kept.Add(l); list.Add((IntPtr)l.Data); }
        Plant("NativeList.Data", list); list.Clear();
        strings = new IntPtr[70];
        for (int i = 0; i < 70; i++) list.Add(strings[i] = Marshal.StringToCoTaskMemUTF8("text number " + i));
        Plant("IntPtr[]", list); list.Clear();
        pairs = new Pair[30];
        for (int i = 0; i < 30; i++) { pairs[i].Key = i; list.Add(pairs[i].Value = Filled(64 + i)); }
        Plant("Pair[].Value", list); list.Clear();
        for (int i = 0; i < 60; i++) { byKey[i] = Filled(900); list.Add(byKey[i]); }
        Plant("Dictionary", list); list.Clear();
        for (int i = 0; i < 25; i++) { var f = new Forgotten { Leaked = Filled(2000) }; list.Add(f.Leaked); }
        Plant("Forgotten.Leaked", list); list.Clear();
        // A block nobody holds, and one only another block holds.
        for (int i = 0; i < 50; i++) { var p = Filled(3333); list.Add(p); }
        Plant("nobody", list); list.Clear();
        var outer = new Image { Pixels = Filled(4096) };
        kept.Add(outer);
        for (int i = 0; i < 20; i++) { var p = Filled(512); ((IntPtr*)outer.Pixels)[i] = p; list.Add(p); }
        Plant("through Image", list); list.Clear();
        var slots = malloc(8 * 90);
        kept.Add(new Image { Pixels = slots });
        for (int i = 0; i < 90; i++) { ((IntPtr*)slots)[i] = GCHandle.ToIntPtr(GCHandle.Alloc(new Version(1, i))); }
        facts.WriteLine($"handles\t90\t0\t{(long)slots:x}");
        for (int i = 0; i < list.Capacity; i++) list.Add(IntPtr.Zero);
    }

    static void Clear(int depth) { byte* waste = stackalloc byte[4096]; new Span<byte>(waste, 4096).Clear(); if (depth > 0) Clear(depth - 1); }

    static void Main(string[] args) {
        facts = new StreamWriter(args[0]);
        var t = new Thread(Work); t.Start(); t.Join();
        Clear(8);
        facts.Flush();
        facts.Dispose();
        Console.WriteLine("ready");
        Console.Out.Flush();
        Thread.Sleep(Timeout.Infinite);
    }
}

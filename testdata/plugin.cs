// The plug-in Reports of plugins.cs; Billing is the same with its own name.
using System; using System.Collections.Generic;
namespace Reports {
public struct Cell { public int Row; public double Value; public string Note; }
public class Row { public int Number; public string Title; public Cell[] Cells; }
public class Table<T> where T : class { public static int Made; public static T Last; [ThreadStatic] public static T Mine; public List<T> Rows = new List<T>(); }
public static class Entry {
 public static string Title = "title of Reports"; public static int Number = 7; public static DateTime Since = new DateTime(2024, 5, 1, 10, 43, 54, DateTimeKind.Utc); public static Cell Best; public static Dictionary<string, Row> Known = new Dictionary<string, Row>(); public static Row[] Buffer = new Row[100];
 [ThreadStatic] static Row current; [ThreadStatic] static int depth;
 public static void Start(List<object> keep) { var t = new Table<Row>(); for (int i = 0; i < 20; i++) { var r = new Row { Number = i, Title = "Reports row " + i, Cells = new Cell[3] }; r.Cells[1] = new Cell { Row = i, Value = i / 4.0, Note = "note " + i }; t.Rows.Add(r); Known[r.Title] = r; Table<Row>.Last = r; Table<Row>.Made++; } Table<string>.Last = "last of Reports"; Table<string>.Made = 3; Best = t.Rows[5].Cells[1]; Buffer[2] = t.Rows[2]; OnThread(1); keep.Add(t); }
 public static void OnThread(int d) { current = new Row { Number = 1000 + d, Title = "current of Reports " + d }; depth = d; Table<Row>.Mine = current; }
 public static EventHandler Handler() { var seen = new List<string>(); return (s, e) => seen.Add("clicked"); }
}}

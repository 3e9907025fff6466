//! `!error`: what a number of an error stands for.

use anyhow::Result;
use minidump::CrashReason;

use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

const NAMES: Table = Table::new(
    "names",
    &[
        Col::data("kind", Type::Text).titled("Win32, NTSTATUS, HRESULT or exception code"),
        Col::data("name", Type::Text).titled("its name there"),
        Col::data("exception", Type::Text).titled("the .NET exception that has it"),
    ],
);

/// `!error VALUE`.
pub const ERROR: Command = Command {
    help: "Names an error of Windows (Win32, NTSTATUS, the code of a structured exception) or of .NET (HRESULT, with the \
           exception that has it, as !pe shows). A number may stand for several; with 1 behind it only the NTSTATUS is \
           shown. The texts that Windows has for errors are not part of this program: the names are looked up faster.",
    args: &[
        Arg::pos("VALUE", Kind::Address, "the number, hexadecimal; an expression").required(),
        Arg::pos("FLAG", Kind::Count, "1: it is an NTSTATUS"),
    ],
    examples: &[
        Example { line: "!error 5", what: "a Win32 error" },
        Example { line: "!error c0000005", what: "a code of an exception" },
        Example { line: "!error 80131509", what: "an HRESULT of .NET" },
    ],
    needs: Needs::Nothing,
    returns: Returns::facts(&[Fact::new("value", "the number", Type::Hex)]).and(&[&NAMES]),
    run,
    ..Command::bare("error", Prefix::Bang, Group::Memory, "what a number of an error stands for")
};

/// HRESULTs of .NET with the exceptions that have them.
/// Source: `src/coreclr/inc/corerror.xml` and `src/libraries/System.Private.CoreLib/src/System/HResults.cs` in dotnet/runtime 10.0.
const HRESULTS: &[(u32, &str, &str)] = &[
    (0x8000_4001, "E_NOTIMPL", "System.NotImplementedException"),
    (0x8000_4002, "E_NOINTERFACE", "System.InvalidCastException"),
    (0x8000_4003, "E_POINTER", "System.NullReferenceException"),
    (0x8000_4005, "E_FAIL", "System.Runtime.InteropServices.COMException"),
    (0x8000_211D, "COR_E_AMBIGUOUSMATCH", "System.Reflection.AmbiguousMatchException"),
    (0x8007_0002, "COR_E_FILENOTFOUND", "System.IO.FileNotFoundException"),
    (0x8007_0003, "COR_E_DIRECTORYNOTFOUND", "System.IO.DirectoryNotFoundException"),
    (0x8007_0005, "COR_E_UNAUTHORIZEDACCESS", "System.UnauthorizedAccessException"),
    (0x8007_000B, "COR_E_BADIMAGEFORMAT", "System.BadImageFormatException"),
    (0x8007_000E, "COR_E_OUTOFMEMORY", "System.OutOfMemoryException"),
    (0x8007_0026, "COR_E_ENDOFSTREAM", "System.IO.EndOfStreamException"),
    (0x8007_0057, "COR_E_ARGUMENT", "System.ArgumentException"),
    (0x8007_00CE, "COR_E_PATHTOOLONG", "System.IO.PathTooLongException"),
    (0x8007_0216, "COR_E_ARITHMETIC", "System.ArithmeticException"),
    (0x8007_03E9, "COR_E_STACKOVERFLOW", "System.StackOverflowException"),
    (0x8002_000E, "COR_E_TARGETPARAMCOUNT", "System.Reflection.TargetParameterCountException"),
    (0x8002_0012, "COR_E_DIVIDEBYZERO", "System.DivideByZeroException"),
    (0x8013_1013, "COR_E_TYPEUNLOADED", "System.TypeUnloadedException"),
    (0x8013_1014, "COR_E_APPDOMAINUNLOADED", "System.AppDomainUnloadedException"),
    (0x8013_1015, "COR_E_CANNOTUNLOADAPPDOMAIN", "System.CannotUnloadAppDomainException"),
    (0x8013_1040, "FUSION_E_REF_DEF_MISMATCH", "System.IO.FileLoadException"),
    (0x8013_1047, "FUSION_E_INVALID_NAME", "System.IO.FileLoadException"),
    (0x8013_1500, "COR_E_EXCEPTION", "System.Exception"),
    (0x8013_1501, "COR_E_SYSTEM", "System.SystemException"),
    (0x8013_1502, "COR_E_ARGUMENTOUTOFRANGE", "System.ArgumentOutOfRangeException"),
    (0x8013_1503, "COR_E_ARRAYTYPEMISMATCH", "System.ArrayTypeMismatchException"),
    (0x8013_1504, "COR_E_CONTEXTMARSHAL", "System.ContextMarshalException"),
    (0x8013_1505, "COR_E_TIMEOUT", "System.TimeoutException"),
    (0x8013_1506, "COR_E_EXECUTIONENGINE", "System.ExecutionEngineException"),
    (0x8013_1507, "COR_E_FIELDACCESS", "System.FieldAccessException"),
    (0x8013_1508, "COR_E_INDEXOUTOFRANGE", "System.IndexOutOfRangeException"),
    (0x8013_1509, "COR_E_INVALIDOPERATION", "System.InvalidOperationException"),
    (0x8013_150A, "COR_E_SECURITY", "System.Security.SecurityException"),
    (0x8013_150C, "COR_E_SERIALIZATION", "System.Runtime.Serialization.SerializationException"),
    (0x8013_150D, "COR_E_VERIFICATION", "System.Security.VerificationException"),
    (0x8013_1510, "COR_E_METHODACCESS", "System.MethodAccessException"),
    (0x8013_1511, "COR_E_MISSINGFIELD", "System.MissingFieldException"),
    (0x8013_1512, "COR_E_MISSINGMEMBER", "System.MissingMemberException"),
    (0x8013_1513, "COR_E_MISSINGMETHOD", "System.MissingMethodException"),
    (0x8013_1514, "COR_E_MULTICASTNOTSUPPORTED", "System.MulticastNotSupportedException"),
    (0x8013_1515, "COR_E_NOTSUPPORTED", "System.NotSupportedException"),
    (0x8013_1516, "COR_E_OVERFLOW", "System.OverflowException"),
    (0x8013_1517, "COR_E_RANK", "System.RankException"),
    (0x8013_1518, "COR_E_SYNCHRONIZATIONLOCK", "System.Threading.SynchronizationLockException"),
    (0x8013_1519, "COR_E_THREADINTERRUPTED", "System.Threading.ThreadInterruptedException"),
    (0x8013_151A, "COR_E_MEMBERACCESS", "System.MemberAccessException"),
    (0x8013_1520, "COR_E_THREADSTATE", "System.Threading.ThreadStateException"),
    (0x8013_1522, "COR_E_TYPELOAD", "System.TypeLoadException"),
    (0x8013_1523, "COR_E_ENTRYPOINTNOTFOUND", "System.EntryPointNotFoundException"),
    (0x8013_1524, "COR_E_DLLNOTFOUND", "System.DllNotFoundException"),
    (0x8013_1527, "COR_E_INVALIDCOMOBJECT", "System.Runtime.InteropServices.InvalidComObjectException"),
    (0x8013_1528, "COR_E_NOTFINITENUMBER", "System.NotFiniteNumberException"),
    (0x8013_1529, "COR_E_DUPLICATEWAITOBJECT", "System.DuplicateWaitObjectException"),
    (0x8013_152B, "COR_E_SEMAPHOREFULL", "System.Threading.SemaphoreFullException"),
    (0x8013_152C, "COR_E_WAITHANDLECANNOTBEOPENED", "System.Threading.WaitHandleCannotBeOpenedException"),
    (0x8013_152D, "COR_E_ABANDONEDMUTEX", "System.Threading.AbandonedMutexException"),
    (0x8013_1530, "COR_E_THREADABORTED", "System.Threading.ThreadAbortException"),
    (0x8013_1531, "COR_E_INVALIDOLEVARIANTTYPE", "System.Runtime.InteropServices.InvalidOleVariantTypeException"),
    (0x8013_1532, "COR_E_MISSINGMANIFESTRESOURCE", "System.Resources.MissingManifestResourceException"),
    (0x8013_1533, "COR_E_SAFEARRAYTYPEMISMATCH", "System.Runtime.InteropServices.SafeArrayTypeMismatchException"),
    (0x8013_1534, "COR_E_TYPEINITIALIZATION", "System.TypeInitializationException"),
    (0x8013_1535, "COR_E_MARSHALDIRECTIVE", "System.Runtime.InteropServices.MarshalDirectiveException"),
    (0x8013_1536, "COR_E_MISSINGSATELLITEASSEMBLY", "System.Resources.MissingSatelliteAssemblyException"),
    (0x8013_1537, "COR_E_FORMAT", "System.FormatException"),
    (0x8013_1538, "COR_E_SAFEARRAYRANKMISMATCH", "System.Runtime.InteropServices.SafeArrayRankMismatchException"),
    (0x8013_1539, "COR_E_PLATFORMNOTSUPPORTED", "System.PlatformNotSupportedException"),
    (0x8013_153A, "COR_E_INVALIDPROGRAM", "System.InvalidProgramException"),
    (0x8013_153B, "COR_E_OPERATIONCANCELED", "System.OperationCanceledException"),
    (0x8013_153D, "COR_E_INSUFFICIENTMEMORY", "System.InsufficientMemoryException"),
    (0x8013_153E, "COR_E_RUNTIMEWRAPPED", "System.Runtime.CompilerServices.RuntimeWrappedException"),
    (0x8013_1541, "COR_E_DATAMISALIGNED", "System.DataMisalignedException"),
    (0x8013_1543, "COR_E_TYPEACCESS", "System.TypeAccessException"),
    (0x8013_1577, "COR_E_KEYNOTFOUND", "System.Collections.Generic.KeyNotFoundException"),
    (0x8013_1578, "COR_E_INSUFFICIENTEXECUTIONSTACK", "System.InsufficientExecutionStackException"),
    (0x8013_1600, "COR_E_APPLICATION", "System.ApplicationException"),
    (0x8013_1601, "COR_E_INVALIDFILTERCRITERIA", "System.Reflection.InvalidFilterCriteriaException"),
    (0x8013_1602, "COR_E_REFLECTIONTYPELOAD", "System.Reflection.ReflectionTypeLoadException"),
    (0x8013_1603, "COR_E_TARGET", "System.Reflection.TargetException"),
    (0x8013_1604, "COR_E_TARGETINVOCATION", "System.Reflection.TargetInvocationException"),
    (0x8013_1605, "COR_E_CUSTOMATTRIBUTEFORMAT", "System.Reflection.CustomAttributeFormatException"),
    (0x8013_1620, "COR_E_IO", "System.IO.IOException"),
    (0x8013_1621, "COR_E_FILELOAD", "System.IO.FileLoadException"),
    (0x8013_1622, "COR_E_OBJECTDISPOSED", "System.ObjectDisposedException"),
    (0x8013_1623, "COR_E_FAILFAST", "Environment.FailFast"),
    (0x8013_1640, "COR_E_HOSTPROTECTION", "System.Security.HostProtectionException"),
];

/// Codes of structured exceptions that runtimes raise.
const RAISED: &[(u32, &str)] = &[
    (0xE043_4352, "CLR exception (.NET 4 and later)"),
    (0xE043_4F4D, "CLR exception (before .NET 4)"),
    (0xE06D_7363, "C++ exception"),
];

type Named = (&'static str, String, Option<&'static str>);

fn names(value: u32, status_alone: bool) -> Vec<Named> {
    let mut found: Vec<Named> = Vec::new();
    let mut add = |kind, name: String, exception| {
        if !found.iter().any(|(_, n, _)| *n == name) {
            found.push((kind, name, exception));
        }
    };
    if !status_alone {
        if let CrashReason::WindowsWinError(e) = CrashReason::from_windows_error(value) {
            add("Win32", format!("{e:?}"), None);
        }
        if let Some((_, name, exception)) = HRESULTS.iter().find(|h| h.0 == value) {
            add("HRESULT", (*name).to_owned(), Some(*exception));
        }
        if let Some(CrashReason::WindowsWinErrorWithFacility(facility, e)) =
            CrashReason::from_windows_error_with_facility(value)
        {
            add("HRESULT", format!("{e:?} ({facility:?})"), None);
        }
        if let Some((_, name)) = RAISED.iter().find(|r| r.0 == value) {
            add("exception code", (*name).to_owned(), None);
        } else if let CrashReason::WindowsGeneral(e) = CrashReason::from_windows_code(value) {
            add("exception code", format!("{e:?}"), None);
        }
    }
    if let CrashReason::WindowsNtStatus(e) = CrashReason::from_windows_error(value) {
        add("NTSTATUS", format!("{e:?}"), None);
    }
    found
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    // Registers and HRESULTs of the heap come with their sign: the lower half is the number.
    let value = args.number("VALUE").unwrap_or(0) as u32;
    ctx.out.datum("value", &Cell::Hex(value.into()));
    let found = names(value, args.number("FLAG") == Some(1));
    for (kind, name, exception) in &found {
        let tail = exception.map_or(String::new(), |e| format!(" ({e})"));
        let line = format!("Error code: ({kind}) {value:#x} ({value}) - {name}{tail}");
        ctx.out.row_as(&NAMES, &[Cell::text(*kind), Cell::text(name), Cell::maybe(*exception)], line)?;
    }
    if found.is_empty() {
        ctx.out.facts(&[], format!("Error code: {value:#x} ({value}) - no name is known"))?;
        return Ok(Outcome::Empty);
    }
    Ok(Outcome::Complete)
}

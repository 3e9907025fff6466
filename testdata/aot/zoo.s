# Types and symbols as the compiler of NativeAOT programs writes them for Windows (dotnet/runtime
# `src/coreclr/tools/aot/ILCompiler.Compiler/Compiler/ObjectWriter/CodeView/CodeViewTypesBuilder.cs`).
# Made into zoo.pdb by LLVM 14 and the linker of LLVM 22:
#   llvm-mc -triple x86_64-pc-windows-msvc -filetype=obj zoo.s -o zoo.obj
#   lld-link /dll /noentry /debug /brepro /pdbaltpath:zoo.pdb zoo.obj /out:zoo.dll
	.section .debug$T,"dr"
	.p2align 2
	.long 4
	# 0x1000: shape of a table of virtual methods
	.short 6
	.byte 10, 0, 0, 0, 0, 0
	# 0x1001: pointer to it
	.short 10
	.byte 2, 16, 0, 16, 0, 0, 44, 0, 0, 0
	# 0x1002: members
	.short 10
	.byte 3, 18, 9, 20, 0, 0, 1, 16, 0, 0
	# 0x1003: class Object
	.short 30
	.byte 4, 21, 1, 0, 0, 0, 2, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 79, 98, 106, 101
	.byte 99, 116, 0, 0, 0, 0
	# 0x1004: class String, declared
	.short 30
	.byte 4, 21, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 83, 116, 114, 105
	.byte 110, 103, 0, 0, 0, 0
	# 0x1005: reference
	.short 10
	.byte 2, 16, 4, 16, 0, 0, 44, 0, 0, 0
	# 0x1006: members
	.short 62
	.byte 3, 18, 0, 20, 0, 0, 3, 16, 0, 0, 0, 0, 242, 241, 13, 21, 0, 0, 116, 0, 0, 0, 8, 0
	.byte 95, 115, 116, 114, 105, 110, 103, 76, 101, 110, 103, 116, 104, 0, 13, 21, 0, 0, 113, 0, 0, 0, 12, 0
	.byte 95, 102, 105, 114, 115, 116, 67, 104, 97, 114, 0, 243, 242, 241
	# 0x1007: class String
	.short 30
	.byte 4, 21, 3, 0, 0, 0, 6, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 22, 0, 83, 116, 114, 105
	.byte 110, 103, 0, 0, 0, 0
	# 0x1008: class Zoo_Zoo_Node, declared
	.short 34
	.byte 4, 21, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90, 111, 111, 95
	.byte 90, 111, 111, 95, 78, 111, 100, 101, 0, 0
	# 0x1009: reference
	.short 10
	.byte 2, 16, 8, 16, 0, 0, 44, 0, 0, 0
	# 0x100a: enumerators
	.short 14
	.byte 3, 18, 2, 21, 0, 0, 1, 0, 82, 101, 100, 0, 242, 241
	# 0x100b: enumeration
	.short 30
	.byte 7, 21, 1, 0, 0, 0, 116, 0, 0, 0, 10, 16, 0, 0, 90, 111, 111, 95, 90, 111, 111, 95, 67, 111
	.byte 108, 111, 117, 114, 0, 0
	# 0x100c: class Zoo_Zoo_Point, declared
	.short 34
	.byte 5, 21, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90, 111, 111, 95
	.byte 90, 111, 111, 95, 80, 111, 105, 110, 116, 0
	# 0x100d: members
	.short 26
	.byte 3, 18, 13, 21, 0, 0, 116, 0, 0, 0, 0, 0, 88, 0, 13, 21, 0, 0, 116, 0, 0, 0, 4, 0
	.byte 89, 0
	# 0x100e: class Zoo_Zoo_Point
	.short 34
	.byte 5, 21, 2, 0, 0, 0, 13, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 90, 111, 111, 95
	.byte 90, 111, 111, 95, 80, 111, 105, 110, 116, 0
	# 0x100f: array
	.short 14
	.byte 3, 21, 9, 16, 0, 0, 116, 0, 0, 0, 8, 0, 0, 0
	# 0x1010: members
	.short 50
	.byte 3, 18, 0, 20, 0, 0, 3, 16, 0, 0, 0, 0, 242, 241, 13, 21, 0, 0, 116, 0, 0, 0, 8, 0
	.byte 99, 111, 117, 110, 116, 0, 13, 21, 0, 0, 15, 16, 0, 0, 16, 0, 118, 97, 108, 117, 101, 115, 0, 243
	.byte 242, 241
	# 0x1011: class of arrays
	.short 42
	.byte 4, 21, 3, 0, 0, 0, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 95, 95, 65, 114
	.byte 114, 97, 121, 60, 90, 111, 111, 95, 90, 111, 111, 95, 78, 111, 100, 101, 62, 0
	# 0x1012: reference
	.short 10
	.byte 2, 16, 17, 16, 0, 0, 44, 0, 0, 0
	# 0x1013: members
	.short 30
	.byte 3, 18, 0, 20, 0, 0, 3, 16, 0, 0, 0, 0, 242, 241, 13, 21, 0, 0, 18, 16, 0, 0, 8, 0
	.byte 65, 108, 108, 0, 242, 241
	# 0x1014: class __type__GCSTATICSZoo_Zoo_Node
	.short 50
	.byte 4, 21, 2, 0, 0, 0, 19, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 95, 95, 116, 121
	.byte 112, 101, 95, 95, 71, 67, 83, 84, 65, 84, 73, 67, 83, 90, 111, 111, 95, 90, 111, 111, 95, 78, 111, 100
	.byte 101, 0
	# 0x1015: pointer
	.short 10
	.byte 2, 16, 20, 16, 0, 0, 12, 0, 0, 0
	# 0x1016: members
	.short 122
	.byte 3, 18, 0, 20, 0, 0, 3, 16, 0, 0, 0, 0, 242, 241, 13, 21, 0, 0, 9, 16, 0, 0, 8, 0
	.byte 78, 101, 120, 116, 0, 241, 13, 21, 0, 0, 5, 16, 0, 0, 16, 0, 84, 101, 120, 116, 0, 241, 13, 21
	.byte 0, 0, 65, 0, 0, 0, 24, 0, 87, 101, 105, 103, 104, 116, 0, 243, 242, 241, 13, 21, 0, 0, 11, 16
	.byte 0, 0, 32, 0, 67, 111, 108, 111, 117, 114, 0, 243, 242, 241, 13, 21, 0, 0, 12, 16, 0, 0, 36, 0
	.byte 80, 108, 97, 99, 101, 0, 14, 21, 0, 0, 21, 16, 0, 0, 95, 95, 71, 67, 83, 84, 65, 84, 73, 67
	.byte 83, 0
	# 0x1017: class Zoo_Zoo_Node
	.short 34
	.byte 4, 21, 7, 0, 0, 0, 22, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 0, 90, 111, 111, 95
	.byte 90, 111, 111, 95, 78, 111, 100, 101, 0, 0
	# 0x1018: this
	.short 10
	.byte 2, 16, 8, 16, 0, 0, 12, 4, 0, 0
	# 0x1019: arguments
	.short 6
	.byte 1, 18, 0, 0, 0, 0
	# 0x101a: method
	.short 26
	.byte 9, 16, 116, 0, 0, 0, 8, 16, 0, 0, 24, 16, 0, 0, 4, 0, 0, 0, 25, 16, 0, 0, 0, 0
	.byte 0, 0
	.data
	.zero 64
	.globl "??_7Object@@6B@"
"??_7Object@@6B@":
	.zero 64
	.globl "??_7String@@6B@"
"??_7String@@6B@":
	.zero 128
	.globl "??_7Zoo_Zoo_Node@@6B@"
"??_7Zoo_Zoo_Node@@6B@":
	.zero 128
	.globl "??_7Boxed_Zoo_Zoo_Point@@6B@"
"??_7Boxed_Zoo_Zoo_Point@@6B@":
	.zero 128
	.globl "?__GCSTATICS@Zoo_Zoo_Node@@"
"?__GCSTATICS@Zoo_Zoo_Node@@":
	.zero 256

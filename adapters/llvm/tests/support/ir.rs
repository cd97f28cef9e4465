//! What the tests compile.

/// Code, a constant, a variable, and a call to the C library: `7 i` and how often it was called, in hundreds.
pub const PICK: &str = "
@factor = constant i32 7
@counter = global i32 0
declare i32 @abs(i32)

define i32 @pick(i32 %i) {
  %factor = load volatile i32, ptr @factor
  %value = mul i32 %factor, %i
  %old = load i32, ptr @counter
  %new = add i32 %old, -100
  store i32 %new, ptr @counter
  %absolute = call i32 @abs(i32 %new)
  %sum = add i32 %absolute, %value
  ret i32 %sum
}";

/// Calls `pick`, and reads its module's constant.
pub const PICK_MORE: &str = "
@factor = external constant i32
declare i32 @pick(i32)

define i32 @pick_more(i32 %i) {
  %picked = call i32 @pick(i32 %i)
  %factor = load volatile i32, ptr @factor
  %sum = add i32 %picked, %factor
  ret i32 %sum
}";

/// Throws an `int`.
pub const THROW: &str = "
@_ZTIi = external constant ptr
declare ptr @__cxa_allocate_exception(i64)
declare void @__cxa_throw(ptr, ptr, ptr)

define i32 @throw_it(i32 %value) uwtable {
  %exception = call ptr @__cxa_allocate_exception(i64 4)
  store i32 %value, ptr %exception
  call void @__cxa_throw(ptr %exception, ptr @_ZTIi, ptr null)
  unreachable
}";

/// Catches what `throw_it` throws, and adds 1000.
pub const CATCH: &str = "
@_ZTIi = external constant ptr
declare i32 @__gxx_personality_v0(...)
declare ptr @__cxa_begin_catch(ptr)
declare void @__cxa_end_catch()
declare i32 @throw_it(i32)

define i32 @catch_it(i32 %value) uwtable personality ptr @__gxx_personality_v0 {
  %returned = invoke i32 @throw_it(i32 %value) to label %normal unwind label %caught
normal:
  ret i32 %returned
caught:
  %pad = landingpad { ptr, i32 } catch ptr @_ZTIi
  %exception = extractvalue { ptr, i32 } %pad, 0
  %place = call ptr @__cxa_begin_catch(ptr %exception)
  %thrown = load i32, ptr %place
  call void @__cxa_end_catch()
  %sum = add i32 %thrown, 1000
  ret i32 %sum
}";

/// Module number `i` of many: `f0` with a variable of its own, which it counts in, reached through the GOT if it has one.
pub fn counting(number: usize) -> String {
    format!(
        "
@count{number} = global i32 {number}
define i32 @f{number}(i32 %i) {{
  %old = load i32, ptr @count{number}
  %new = add i32 %old, %i
  store i32 %new, ptr @count{number}
  ret i32 %new
}}"
    )
}

/// Variables of each thread's that begin with zero, found in every way that there is: `count_mine` adds to each, and returns the
/// sum.
pub const THREAD_LOCAL: &str = "
@general = thread_local global i32 0
@near = internal thread_local(localdynamic) global i32 0
@initial = thread_local(initialexec) global i32 0
@exact = internal thread_local(localexec) global i32 0

define i32 @count_mine(i32 %i) {
  %a0 = load i32, ptr @general
  %a1 = add i32 %a0, %i
  store i32 %a1, ptr @general
  %b0 = load i32, ptr @near
  %b1 = add i32 %b0, %i
  store i32 %b1, ptr @near
  %c0 = load i32, ptr @initial
  %c1 = add i32 %c0, %i
  store i32 %c1, ptr @initial
  %d0 = load i32, ptr @exact
  %d1 = add i32 %d0, %i
  store i32 %d1, ptr @exact
  %ab = add i32 %a1, %b1
  %cd = add i32 %c1, %d1
  %sum = add i32 %ab, %cd
  ret i32 %sum
}";

/// Reads a variable of `THREAD_LOCAL`, in this thread.
pub const THREAD_LOCAL_OF_OTHERS: &str = "
@general = external thread_local global i32

define i32 @read_general(i32 %i) {
  %general = load i32, ptr @general
  %sum = add i32 %general, %i
  ret i32 %sum
}";

/// A variable of each thread's, of some words, the last of which begins with `value`: `last_mine` returns it and adds to it.
pub fn thread_local(words: usize, value: i32) -> String {
    let before = words - 1;
    format!(
        "
@mine = thread_local global {{ [{before} x i32], i32 }} {{ [{before} x i32] zeroinitializer, i32 {value} }}

define i32 @last_mine(i32 %i) {{
  %place = getelementptr {{ [{before} x i32], i32 }}, ptr @mine, i32 0, i32 1
  %old = load i32, ptr %place
  %new = add i32 %old, %i
  store i32 %new, ptr %place
  ret i32 %old
}}"
    )
}

/// What LLVM makes of a variable like that of `thread_local` if it is to be emulated.
pub const EMULATED: &str = "
@__emutls_v.mine = global { i64, i64, ptr, ptr } { i64 4, i64 4, ptr null, ptr @__emutls_t.mine }
@__emutls_t.mine = constant i32 5
declare ptr @__emutls_get_address(ptr)

define i32 @last_mine(i32 %i) {
  %place = call ptr @__emutls_get_address(ptr @__emutls_v.mine)
  %old = load i32, ptr %place
  %new = add i32 %old, %i
  store i32 %new, ptr %place
  ret i32 %old
}";

/// `read_answer`, and what is there for finalization only: a function that tells `observe` where it and its constant are, copies the
/// constant into a variable, and returns `size` bytes of nothing. One byte of zero is how an action says that it went well.
pub fn preparing(size: usize) -> String {
    format!(
        "
@answer = global i32 0
@question = constant i32 42, section \".prepare.rodata\"
declare void @observe(ptr, ptr)

define {{ i64, i64 }} @prepare(ptr %arguments, i64 %size) nounwind section \".prepare\" {{
  call void @observe(ptr @prepare, ptr @question)
  %question = load volatile i32, ptr @question
  store i32 %question, ptr @answer
  ret {{ i64, i64 }} {{ i64 0, i64 {size} }}
}}

define i32 @read_answer(i32 %i) nounwind {{
  %answer = load i32, ptr @answer
  %sum = add i32 %answer, %i
  ret i32 %sum
}}"
    )
}

/// A function, and an unwind table that is none.
pub const BAD_TABLE: &str = r#"
module asm ".section .eh_frame,\22a\22,@progbits"
module asm "bad_table: .long 4096"
module asm ".long 0"
module asm ".text"

define i32 @unlucky(i32 %i) nounwind {
  ret i32 %i
}"#;

/// `spacious`, beside a variable of some bytes.
pub fn spacious(size: usize) -> String {
    format!(
        "
@space = global [{size} x i8] zeroinitializer
define i32 @spacious(i32 %i) {{
  %byte = load volatile i8, ptr @space
  %sum = add i32 %i, 1
  ret i32 %sum
}}"
    )
}

/// `call_all`, which calls `e0`, `e1` and so on, one after the other.
pub fn calling(count: usize) -> String {
    let mut ir = String::new();
    for number in 0..count {
        ir += &format!("declare i32 @e{number}(i32)\n");
    }
    ir += "define i32 @call_all(i32 %i) {\n";
    let mut last = "%i".to_string();
    for number in 0..count {
        ir += &format!("  %r{number} = call i32 @e{number}(i32 {last})\n");
        last = format!("%r{number}");
    }
    ir + &format!("  ret i32 {last}\n}}")
}

//! A language whose functions are modules in one window: `cargo run -p nearcode-cranelift --example toy [-- LINE...]`
//!
//! `name(parameter, ...) = expression` defines a function, or replaces one; any other line is evaluated. Expressions are made of
//! numbers, parameters, calls, `+`, `-`, `*`, `<` and `if a then b else c`.
//!
//! A call is one instruction, to the function as it was when its caller was compiled. The caller keeps that one: what is
//! replaced goes when nobody calls it any more.

use std::collections::HashMap;
use std::error::Error;
use std::rc::Rc;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, BlockArg, FuncRef, InstBuilder, Signature, Value, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, default_libcall_names};
use nearcode_cranelift::nearcode::{Window, WindowOptions, Writing};
use nearcode_cranelift::{Function, ModuleMemory, WindowMemoryProvider};

const PROGRAM: &[&str] = &[
    "fib(n) = if n < 2 then n else fib(n - 1) + fib(n - 2)",
    "fib(30)",
    "twice(n) = 2 * fib(n)",
    "twice(20)",
    "fib(n) = n",
    "fib(20) + twice(20)",
    "twice(n) = fib(n) * 2",
    "twice(20)",
];

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let options = WindowOptions::new().with_writing(Writing::SameAddress);
    let mut session = Session {
        window: Window::with_options(&options)?,
        functions: HashMap::new(),
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lines = if given.is_empty() { PROGRAM } else { &given };
    for line in lines {
        let answer = session.line(line)?;
        let alive = session.window.stats().objects();
        println!("{line:60} {answer:>12}    {alive} in the window");
    }
    Ok(())
}

struct Session {
    window: Window,
    functions: HashMap<String, Rc<Defined>>,
}

/// A function, and those that it calls.
struct Defined {
    parameters: usize,
    entry: *const u8,
    memory: ModuleMemory,
    _calls: Vec<Rc<Defined>>,
}

impl Session {
    fn line(&mut self, line: &str) -> Result<String, Failure> {
        let mut parser = Parser::new(line);
        if let Some((name, parameters)) = parser.head() {
            let body = parser.all()?;
            let defined = self.compile(&name, &parameters, &body)?;
            self.functions.insert(name, Rc::new(defined));
            return Ok("defined".into());
        }
        let defined = self.compile("", &[], &Parser::new(line).all()?)?;
        // SAFETY: it is compiled as a function without parameters, and `defined` keeps what it calls.
        let function: Function<extern "C" fn() -> i64> =
            unsafe { defined.memory.function(defined.entry)? };
        Ok(function().to_string())
    }

    /// A module with one function.
    fn compile(&self, name: &str, parameters: &[String], body: &Expr) -> Result<Defined, Failure> {
        let mut calls = Vec::new();
        body.names_called(&mut |callee| {
            let known = self.functions.get(callee).filter(|_| callee != name);
            calls.extend(known.map(|known| (callee.to_owned(), Rc::clone(known))));
        });

        let provider = WindowMemoryProvider::new(&self.window)?;
        let memory = provider.memory();
        let mut builder = JITBuilder::new(default_libcall_names())?;
        builder.memory_provider(Box::new(provider));
        builder.symbols(
            calls
                .iter()
                .map(|(name, known)| (name.as_str(), known.entry)),
        );
        let mut module = JITModule::new(builder);

        let signature = signature(&module, parameters.len());
        let id = module.declare_function(name, Linkage::Export, &signature)?;
        let mut callees = HashMap::from([(name.to_owned(), (id, parameters.len()))]);
        for (name, known) in &calls {
            let signature = self::signature(&module, known.parameters);
            let id = module.declare_function(name, Linkage::Import, &signature)?;
            callees.insert(name.clone(), (id, known.parameters));
        }
        let mut context = module.make_context();
        context.func.signature = signature;
        let mut functions = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut context.func, &mut functions);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let values = builder.block_params(block).iter().copied();
        let mut translator = Translator {
            variables: parameters.iter().cloned().zip(values).collect(),
            builder: &mut builder,
            module: &mut module,
            callees,
        };
        let result = translator.value(body)?;
        builder.ins().return_(&[result]);
        builder.seal_all_blocks();
        builder.finalize(module.target_config());
        module.define_function(id, &mut context)?;
        module.finalize_definitions()?;
        Ok(Defined {
            parameters: parameters.len(),
            entry: module.get_finalized_function(id),
            memory,
            _calls: calls.into_iter().map(|(_, known)| known).collect(),
        })
    }
}

/// From so many numbers to one.
fn signature(module: &JITModule, parameters: usize) -> Signature {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); parameters];
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

struct Translator<'a, 'b> {
    builder: &'a mut FunctionBuilder<'b>,
    module: &'a mut JITModule,
    variables: HashMap<String, Value>,
    /// With the numbers of their parameters.
    callees: HashMap<String, (FuncId, usize)>,
}

impl Translator<'_, '_> {
    fn value(&mut self, expr: &Expr) -> Result<Value, Failure> {
        Ok(match expr {
            Expr::Number(number) => self.builder.ins().iconst(types::I64, *number),
            Expr::Variable(name) => {
                let value = self.variables.get(name);
                *value.ok_or_else(|| format!("there is no {name}"))?
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                let ins = self.builder.ins();
                match operator {
                    '+' => ins.iadd(left, right),
                    '-' => ins.isub(left, right),
                    '*' => ins.imul(left, right),
                    _ => {
                        let is_less = ins.icmp(IntCC::SignedLessThan, left, right);
                        self.builder.ins().uextend(types::I64, is_less)
                    }
                }
            }
            Expr::If(condition, then, otherwise) => {
                let condition = self.value(condition)?;
                let [yes, no, done] = [(); 3].map(|()| self.builder.create_block());
                let result = self.builder.append_block_param(done, types::I64);
                self.builder.ins().brif(condition, yes, &[], no, &[]);
                for (block, expr) in [(yes, then), (no, otherwise)] {
                    self.builder.switch_to_block(block);
                    let value = self.value(expr)?;
                    self.builder.ins().jump(done, &[BlockArg::Value(value)]);
                }
                self.builder.switch_to_block(done);
                result
            }
            Expr::Call(name, arguments) => {
                let callee = self.callee(name, arguments.len())?;
                let arguments: Result<Vec<Value>, Failure> = arguments
                    .iter()
                    .map(|argument| self.value(argument))
                    .collect();
                let call = self.builder.ins().call(callee, &arguments?);
                self.builder.inst_results(call)[0]
            }
        })
    }

    fn callee(&mut self, name: &str, arguments: usize) -> Result<FuncRef, Failure> {
        let callee = self.callees.get(name);
        let &(id, parameters) = callee.ok_or_else(|| format!("there is no {name}()"))?;
        if arguments != parameters {
            return Err(format!("{name}() takes {parameters}, not {arguments}").into());
        }
        let callee = self.module.declare_func_in_func(id, self.builder.func);
        // It is in the window, so a direct call reaches it, whichever module it is in.
        self.builder.func.dfg.ext_funcs[callee].colocated = true;
        Ok(callee)
    }
}

enum Expr {
    Number(i64),
    Variable(String),
    Call(String, Vec<Expr>),
    Binary(char, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
}

impl Expr {
    fn names_called(&self, found: &mut impl FnMut(&str)) {
        match self {
            Self::Number(_) | Self::Variable(_) => {}
            Self::Call(name, arguments) => {
                found(name);
                arguments
                    .iter()
                    .for_each(|argument| argument.names_called(found));
            }
            Self::Binary(_, left, right) => {
                left.names_called(found);
                right.names_called(found);
            }
            Self::If(condition, then, otherwise) => {
                condition.names_called(found);
                then.names_called(found);
                otherwise.names_called(found);
            }
        }
    }
}

struct Parser {
    /// In reverse: the next one is the last.
    tokens: Vec<String>,
}

impl Parser {
    fn new(line: &str) -> Self {
        let mut tokens: Vec<String> = Vec::new();
        let mut in_word = false;
        for character in line.chars() {
            let is_word = character.is_alphanumeric();
            match tokens.last_mut() {
                Some(word) if is_word && in_word => word.push(character),
                _ if character.is_whitespace() => {}
                _ => tokens.push(character.into()),
            }
            in_word = is_word;
        }
        tokens.reverse();
        Self { tokens }
    }

    fn next(&mut self) -> String {
        self.tokens.pop().unwrap_or_default()
    }

    fn skip(&mut self, token: &str) -> bool {
        let is_next = self.tokens.last().is_some_and(|next| next == token);
        if is_next {
            self.tokens.pop();
        }
        is_next
    }

    fn expect(&mut self, token: &str) -> Result<(), Failure> {
        if self.skip(token) {
            return Ok(());
        }
        Err(format!("{token} is missing in front of {:?}", self.next()).into())
    }

    /// `name(parameter, ...) =`, if that is how the line begins.
    fn head(&mut self) -> Option<(String, Vec<String>)> {
        let (name, mut parameters) = (self.next(), Vec::new());
        self.skip("(").then_some(())?;
        while !self.skip(")") {
            parameters.push(self.next());
            self.skip(",");
            (!self.tokens.is_empty()).then_some(())?;
        }
        self.skip("=").then_some((name, parameters))
    }

    /// An expression up to the end of the line.
    fn all(&mut self) -> Result<Expr, Failure> {
        let expr = self.expr()?;
        if self.tokens.is_empty() {
            return Ok(expr);
        }
        Err(format!("{:?} is too much", self.next()).into())
    }

    fn expr(&mut self) -> Result<Expr, Failure> {
        self.binary(&["<", "+-", "*"])
    }

    /// Operators from the loosest to the tightest.
    fn binary(&mut self, levels: &[&str]) -> Result<Expr, Failure> {
        let Some((level, tighter)) = levels.split_first() else {
            return self.operand();
        };
        let mut left = self.binary(tighter)?;
        while let Some(operator) = level
            .chars()
            .find(|&c| self.skip(c.encode_utf8(&mut [0; 4])))
        {
            let right = self.binary(tighter)?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr, Failure> {
        let token = self.next();
        if token == "if" {
            let condition = self.expr()?;
            self.expect("then")?;
            let then = self.expr()?;
            self.expect("else")?;
            let otherwise = self.expr()?;
            return Ok(Expr::If(condition.into(), then.into(), otherwise.into()));
        }
        if token == "(" {
            let expr = self.expr()?;
            self.expect(")")?;
            return Ok(expr);
        }
        if token.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Expr::Number(token.parse()?));
        }
        if !token.starts_with(char::is_alphabetic) {
            return Err(format!("{token:?} begins no expression").into());
        }
        if !self.skip("(") {
            return Ok(Expr::Variable(token));
        }
        let mut arguments = Vec::new();
        while !self.skip(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.expr()?);
        }
        Ok(Expr::Call(token, arguments))
    }
}

-- What an interpreter is asked to do, with the same output on every run: no addresses, no hash order, no clock.
-- Arguments: a number of rounds. The script's result becomes the program's status.

local rounds = tonumber(arg[1]) or 10

local function title(text)
  print(("-- %s %s"):format(text, ("-"):rep(40 - #text)))
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

title("closures")
local function counter(step)
  local total = 0
  return function(times)
    for _ = 1, times or 1 do
      total = total + step
    end
    return total
  end
end
local by_two, by_seven = counter(2), counter(7)
print(by_two(rounds), by_seven(3), by_two(), by_seven())

local function fold(f, seed, ...)
  for _, value in ipairs({ ... }) do
    seed = f(seed, value)
  end
  return seed, select("#", ...)
end
print(fold(function(a, b) return a * 31 + b end, 17, 1, 2, 3, 5, 8, 13))

title("coroutines")
local function primes()
  return coroutine.wrap(function()
    local found = {}
    local candidate = 2
    while true do
      local divisible = false
      for _, prime in ipairs(found) do
        if prime * prime > candidate then
          break
        end
        if candidate % prime == 0 then
          divisible = true
          break
        end
      end
      if not divisible then
        found[#found + 1] = candidate
        coroutine.yield(candidate)
      end
      candidate = candidate + 1
    end
  end)
end
local next_prime, last, sum = primes(), 0, 0
for _ = 1, 50 * rounds do
  last = next_prime()
  sum = sum + last
end
print(last, sum)

local echo = coroutine.create(function(first)
  local heard = { first }
  while #heard < 4 do
    heard[#heard + 1] = coroutine.yield(#heard, table.concat(heard, "+"))
  end
  error({ code = #heard })
end)
for _, word in ipairs({ "one", "two", "three" }) do
  print(coroutine.resume(echo, word))
end
local alive, problem = coroutine.resume(echo, "four")
print(alive, problem.code, coroutine.status(echo))

title("formatting")
print(("%5d|%-8s|%08.3f|%x|%q|%g|%s"):format(42, "left", math.pi, 48879, 'a "quoted"\nline', 1e100, true))
print(("%a %.14g %e"):format(0.5, 2 ^ 53, -1 / 3))
print(string.pack("<i4 >I2 z", -2, 513, "end"):byte(1, -1))
print(string.unpack("<d", string.pack("<d", 6.02214076e23)))
print(1 // 0.0, -7 // 2, -7 % 3, 7.5 % -2, math.tointeger(3.0), 2 ^ 0.5)
print(0x7fffffffffffffff + 1 == math.mininteger, 5 // 2 * 1.0, "10" + 5, 3 | 12, ~0)

title("tables")
local inventory = setmetatable({}, {
  __index = function(_, key) return "no " .. key end,
  __call = function(self, key, value) rawset(self, key, value) return self end,
  __len = function(self) return #sorted_keys(self) end,
})
inventory("bolts", 12)("nuts", 7)("washers", 99)
print(inventory.bolts, inventory.screws, #inventory, table.concat(sorted_keys(inventory), " "))
local numbers = {}
for i = 1, 40 * rounds do
  numbers[i] = (i * 7919) % 1009
end
table.sort(numbers, function(a, b) return a > b end)
print(numbers[1], numbers[#numbers], table.concat(table.move(numbers, 1, 6, 1, {}), ","))
print(table.unpack({ 1, nil, 3 }, 1, 3))

title("patterns")
local text = "the quick brown fox jumps over the lazy dog"
print((text:gsub("(%w+) (%w+)", "%2 %1")))
print((text:gsub("%f[%w]%w", string.upper)))
local letters = {}
text:gsub("%a", function(letter) letters[letter] = (letters[letter] or 0) + 1 end)
local tally = {}
for _, letter in ipairs(sorted_keys(letters)) do
  tally[#tally + 1] = letter .. letters[letter]
end
print(table.concat(tally, " "))
for key, value in ("width=80; height = 24;depth=8"):gmatch("(%w+)%s*=%s*(%d+)") do
  io.write(key, ":", value, " ")
end
print(("f(a(b)c)d"):match("%b()"), ("[[x]]"):find("[[", 1, true), utf8.len("größe"), utf8.char(955, 8364))

title("errors")
local function deep(n)
  if n == 0 then
    error("the bottom", 0)
  end
  return 1 + deep(n - 1)
end
print(pcall(deep, 100))
print(pcall(error, nil))
print(select(2, pcall(function() return nil + 1 end)):gsub("^.-:%d+: ", ""))
print(xpcall(function() local t = {} return t.a.b end, function(message) return "handled: " .. message:gsub("^.-:%d+: ", "") end))
local overflowed, message = pcall(function() local function again() return 1 + again() end return again() end)
print(overflowed, message:match("stack overflow"))
local caught = 0
for i = 1, 200 * rounds do
  if not pcall(function() if i % 3 == 0 then error(i) end end) then
    caught = caught + 1
  end
end
print(caught)
do
  local closed = {}
  pcall(function()
    local first <close> = setmetatable({}, { __close = function(_, e) closed[#closed + 1] = "first " .. tostring(e) end })
    local second <close> = setmetatable({}, { __close = function(_, e) closed[#closed + 1] = "second " .. tostring(e) end })
    error("thrown", 0)
  end)
  print(table.concat(closed, ", "))
end

title("garbage")
local finalized = 0
local weak = setmetatable({}, { __mode = "v" })
for i = 1, 300 * rounds do
  weak[i] = setmetatable({ i }, { __gc = function() finalized = finalized + 1 end })
end
collectgarbage()
collectgarbage()
print(finalized, next(weak))
collectgarbage("generational")
local chunks = {}
for i = 1, 100 * rounds do
  chunks[i % 50 + 1] = ("x"):rep(i) .. i
end
collectgarbage("incremental")
collectgarbage()
print(#table.concat(chunks), collectgarbage("count") < 4096)

title("loading")
local environment = { base = 40 }
print(load("return base + ...", "chunk", "t", environment)(2))
print(load(string.dump(function(a, b) return a .. b end, true))("dump", "ed"))
print(select("#", load("return return")), (select(2, load("return return"))))

return rounds + 32

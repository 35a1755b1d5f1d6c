<?php
// How a suite says what it found; see ../python/checks.py, which says the same.

declare(strict_types=1);

[$host, $port] = explode(':', getenv('OUTRIGGER_ADDRESS') ?: '127.0.0.1:6379');
$port = (int) $port;
$servers = (int) (getenv('OUTRIGGER_SERVERS') ?: 1);
// Seconds. What takes longer hangs.
const PATIENCE = 15;

set_error_handler(function (int $level, string $text, string $file, int $line) {
    // A closed connection is a notice, and an exception as well.
    if (error_reporting() & $level && !str_contains($text, 'send of') && !str_contains($text, 'fwrite()')) {
        throw new ErrorException($text, 0, $level, $file, $line);
    }
    return true;
});
error_reporting(E_ALL & ~E_DEPRECATED);

function ask(string $question): string
{
    echo "ask $question\n";
    return trim(fgets(STDIN));
}

function equal($got, $expected): void
{
    if ($got != $expected || gettype($got) !== gettype($expected)) {
        throw new Exception('got ' . json_encode($got) . ', expected ' . json_encode($expected));
    }
}

function raises(string $text, callable $action): void
{
    try {
        $got = $action();
    } catch (Throwable $error) {
        if (!str_contains($error->getMessage(), $text)) {
            throw new Exception("'{$error->getMessage()}' does not say '$text'");
        }
        return;
    }
    throw new Exception('no error but ' . json_encode($got));
}

// Looks until there is something; an error of the library is nothing.
function eventually(string $what, callable $look)
{
    $end = microtime(true) + PATIENCE;
    $last = 'none';
    while (microtime(true) < $end) {
        try {
            if ($found = $look()) {
                return $found;
            }
        } catch (Throwable $error) {
            $last = $error->getMessage();
        }
        usleep(20_000);
    }
    throw new Exception("waited in vain for $what; the last error was $last");
}

function sizes_are_spread(): void
{
    global $servers;
    $sizes = array_map('intval', explode(' ', ask('sizes')));
    if (count($sizes) !== $servers || min($sizes) === 0) {
        throw new Exception('keys of each server: ' . implode(' ', $sizes));
    }
}

// A PHP program that goes on while this one waits, as another request to the same site would.
function meanwhile(string $program)
{
    return proc_open([PHP_BINARY, '-r', $program], [['file', '/dev/null', 'r'], STDERR, STDERR], $pipes);
}

// Calls each check, which fails by throwing; its name is what it shows.
function run(string $client, string $version, array $checks): never
{
    echo "client $client $version\n";
    $failures = 0;
    foreach ($checks as $name) {
        try {
            $name();
            echo "ok $name\n";
        } catch (Throwable $error) {
            $failures++;
            $line = $error->getFile() === get_included_files()[0] ? $error->getLine() : '';
            foreach ($error->getTrace() as $frame) {
                $line = $line ?: (($frame['file'] ?? '') === get_included_files()[0] ? $frame['line'] : '');
            }
            $text = str_replace("\n", ' ', get_class($error) . ' ' . $error->getMessage());
            echo "failed $name: $text (line $line)\n";
        }
    }
    exit($failures ? 1 : 0);
}

// A part of the C++ of lm-aten and lm-c10d: what libtorch throws becomes a string.
#pragma once

#include <cstring>
#include <exception>
#include <string>

#include <c10/util/Exception.h>

// The first line of what was thrown, without torch's backtrace.
template <typename F>
char* caught(F work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    return strdup(text.substr(0, text.find('\n')).c_str());
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return strdup(text.substr(0, text.find('\n')).c_str());
  } catch (...) {
    return strdup("an exception without a message");
  }
}
